"""The methods under a trainer that knows nothing of them: detectron2's SimpleTrainer."""

import copy
import gc

import pytest
import torch
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.utils.events import EventStorage

from vdet_ssl.engine.train_loop import SSLStepTrainer

OPTIONS = {
    "BYOL": [],
    "MoCo": ["MODEL.MOCO.QUEUE_SIZE", 50],
    "SimCLR": [],
    # without epochs its prototypes are never frozen, its queue is filled from the start
    "SwAV": ["MODEL.SWAV.QUEUE_SIZE", 20, "INPUT.NUM_CLIPS", 3, "SOLVER.MAX_EPOCHS", 0.0],
}
NUM_STEPS, NUM_CLIPS, NUM_VIDEOS = 100, 3, 4


@pytest.fixture
def batches(make_clips):
    """The list[dict] of each step."""
    by_step = [make_clips(NUM_CLIPS, NUM_VIDEOS, seed=step) for step in range(NUM_STEPS)]
    return [[{"clips": [clip[n] for clip in clips]} for n in range(NUM_VIDEOS)] for clips in by_step]


def sgd(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def gradients_of_the_parts(model, batch):
    """As our trainer computes them."""
    model.zero_grad()
    for part in model.split(model.stack_clips(batch)):
        sum(model(part).values()).backward()
    return gradients(model)


def count_of_tensors():
    """Elements of all tensors that there are."""
    gc.collect()
    return sum(x.numel() for x in gc.get_objects() if issubclass(type(x), torch.Tensor))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_hundred_steps_have_the_methods_gradients_and_leak_nothing(build_method, batches, name):
    model = build_method(name, OPTIONS[name])
    start = {key: value.clone() for key, value in model.state_dict().items()}
    trainer, counts = SimpleTrainer(model, batches, sgd(model)), []
    with EventStorage():
        for step, batch in enumerate(batches):
            same = copy.deepcopy(model)
            expected = gradients_of_the_parts(same, batch)
            trainer.run_step()
            actual = gradients(model)
            assert actual.keys() == expected.keys()
            for key, grad in actual.items():
                torch.testing.assert_close(grad, expected[key], rtol=1e-9, atol=1e-11, msg=lambda m, k=key: f"{k}: {m}")
            del same, expected
            if step in (9, NUM_STEPS - 1):
                counts.append(count_of_tensors())
    assert counts[0] == counts[1]
    for key, value in model.state_dict().items():
        if key.startswith("queue."):
            assert torch.equal(value, start[key]), key


@pytest.mark.parametrize("name", OPTIONS)
def test_with_a_hook_for_the_end_of_a_step_it_trains_as_ours_does(build_method, batches, tmp_path, name):
    class AfterStep(HookBase):
        def after_step(self):
            self.trainer.model.after_step(self.trainer.iter / NUM_STEPS)

    theirs = build_method(name, OPTIONS[name])
    ours = copy.deepcopy(theirs)
    trainer = SimpleTrainer(theirs, batches, sgd(theirs))
    trainer.register_hooks([AfterStep()])
    trainer.train(0, NUM_STEPS)
    arguments = {"accumulation_steps": 1, "seed": 0, "amp": False, "dump_dir": tmp_path, "max_iter": NUM_STEPS}
    step = SSLStepTrainer(ours, batches, sgd(ours), **arguments)
    with EventStorage():
        for step.iter in range(NUM_STEPS):
            step.run_step()
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(
            theirs.state_dict()[key], value, rtol=1e-6, atol=1e-8, msg=lambda m, k=key: f"{k}: {m}"
        )
