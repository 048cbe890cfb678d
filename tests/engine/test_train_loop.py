import copy

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from vdet_ssl.config import load_cfg
from vdet_ssl.engine.hooks import LRSchedule
from vdet_ssl.engine.train_loop import SSLStepTrainer, StepTrainer

TINY = [
    "MODEL.DEVICE",
    "cpu",
    "MODEL.RESNETS.DEPTH",
    "18",
    "MODEL.RESNETS.STEM_OUT_CHANNELS",
    "4",
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    "4",
    "MODEL.RESNETS.ZERO_INIT_RESIDUAL",
    "False",
    "MODEL.BYOL.EMBED_DIM",
    "8",
    "MODEL.BYOL.HIDDEN_DIM",
    "16",
    "MODEL.MOCO.EMBED_DIM",
    "8",
    "MODEL.MOCO.HIDDEN_DIM",
    "16",
    "MODEL.MOCO.QUEUE_SIZE",
    "12",
    "MODEL.SIMCLR.EMBED_DIM",
    "8",
    "MODEL.SIMCLR.HIDDEN_DIM",
    "16",
    "MODEL.SWAV.EMBED_DIM",
    "8",
    "MODEL.SWAV.HIDDEN_DIM",
    "16",
    "MODEL.SWAV.NUM_PROTOTYPES",
    "6",
]


def tiny_model(name, *overrides):
    torch.manual_seed(0)
    return build_model(load_cfg("", [*TINY, "MODEL.META_ARCHITECTURE", name, *overrides]))


def batch_of(num_videos, num_clips=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def clip():
        return torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8, generator=generator)

    return [{"clips": [clip() for _ in range(num_clips)], "file_name": f"v{i}.mp4"} for i in range(num_videos)]


def step_trainer(model, batches, tmp_path, cls=SSLStepTrainer, accumulation_steps=1, **kwargs):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    if cls is SSLStepTrainer:
        kwargs = {"max_iter": 10, **kwargs}
    return cls(
        model, batches, optimizer, accumulation_steps=accumulation_steps, seed=0, amp=False, dump_dir=tmp_path, **kwargs
    )


def run(trainer, iterations=1):
    with EventStorage() as storage:
        for trainer.iter in range(iterations):
            storage.iter = trainer.iter
            trainer.run_step()
        return storage.latest()


@pytest.mark.parametrize("name", ["BYOL", "MoCo", "SimCLR", "SwAV"])
@pytest.mark.parametrize("num_clips", [2, 3])
def test_parts_one_after_another_give_what_detectron2s_trainer_gives(tmp_path, name, num_clips):
    model = tiny_model(name)
    plain = copy.deepcopy(model)
    batch = batch_of(4, num_clips)
    ours = step_trainer(model, [batch], tmp_path)
    logged = run(ours)
    theirs = SimpleTrainer(plain, [batch], torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], 0.1))
    with EventStorage() as storage:
        ours._seed_iteration()  # shuffled BN draws
        theirs._data_loader_iter_obj = iter([batch])
        theirs.run_step()
        assert storage.latest()["total_loss"][0] == pytest.approx(logged["total_loss"][0], rel=1e-5)
    for (key, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        if p.requires_grad:
            assert p.grad is not None, f"{key} got no gradient"
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5, msg=key)
    assert logged["grad_norm"][0] > 0


@pytest.mark.parametrize("name", ["BYOL", "MoCo"])
def test_accumulated_batches_give_the_gradient_of_the_larger_one(tmp_path, name):
    no_bn = ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BYOL.MLP_NORM", "", "MODEL.BN.GROUP_SIZE", "0"]
    model = tiny_model(name, *no_bn)
    large = copy.deepcopy(model)
    batch = batch_of(4)
    trainer = step_trainer(model, [batch[:2], batch[2:]], tmp_path, accumulation_steps=2)
    losses = run(trainer)["total_loss"][0]
    assert losses == pytest.approx(run(step_trainer(large, [batch], tmp_path))["total_loss"][0], rel=1e-5)
    for (key, p), q in zip(model.named_parameters(), large.named_parameters(), strict=True):
        torch.testing.assert_close(p, q[1], rtol=1e-4, atol=1e-5, msg=key)
    if name == "MoCo":
        ours, theirs = (m.queue.items[:, 0].sort().values for m in (model, large))  # of vectors of length 1
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cls", [SSLStepTrainer, StepTrainer])
def test_nan_stops_with_iteration_inputs_and_a_dump_that_reproduces_it(tmp_path, cls):
    model = tiny_model("BYOL")
    with torch.no_grad():
        model.predictor[-1].bias[0] = float("nan")
    batch = batch_of(2)
    with pytest.raises(FloatingPointError, match=r"iteration 0: loss_byol.*v0\.mp4.*v1\.mp4.*not_finite_iter0_rank0"):
        run(step_trainer(model, [batch], tmp_path, cls))
    dump = torch.load(tmp_path / "not_finite_iter0_rank0.pth", weights_only=True)
    again = tiny_model("BYOL")
    again.load_state_dict(dump["model"])
    assert torch.isnan(again(dump["batches"][0])["loss_byol"])


def test_the_learning_rate_depends_on_progress_alone():
    class Trainer:
        iter, max_iter = 3, 10

    weight, bias = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 6.0}], 2.0)
    hook = LRSchedule(optimizer, 2.0, lambda progress: 1 - progress)
    for group in optimizer.param_groups:
        group["lr"] = 123.0  # what a checkpoint sets
    hook.trainer = Trainer()
    with EventStorage() as Trainer.storage:
        hook.before_step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2.0 * 0.7, 6.0 * 0.7])
