"""The four methods in 2 and 4 gloo processes against one process with the whole batch; trained as the trainer does."""

import contextlib

import pytest
import torch
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

NUM_CLIPS, NUM_VIDEOS = 3, 8  # videos of all processes together
METHODS = ["BYOL", "MoCo", "SimCLR", "SwAV"]


def own_share(clips):
    share = NUM_VIDEOS // comm.get_world_size()
    return [clip[comm.get_rank() * share :][:share] for clip in clips]


def train(build_method, make_clips, name, options, num_steps, seed_by_rank=False):
    """Train with SGD on batches split over the processes; return the first step's loss and gradients, and the state."""
    model = build_method(name, options, seed=comm.get_rank() if seed_by_rank else 0)
    if name == "SwAV":
        model.frozen_until = 0.5
    ddp = DistributedDataParallel(model, broadcast_buffers=False) if comm.get_world_size() > 1 else model
    start = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(num_steps):
        optimizer.zero_grad()
        loss = 0.0
        parts = model.split(own_share(make_clips(NUM_CLIPS, NUM_VIDEOS, seed=step)))
        for i, part in enumerate(parts):
            is_last = i == len(parts) - 1
            with contextlib.nullcontext() if is_last or ddp is model else ddp.no_sync():
                (part_loss,) = ddp(part).values()
                part_loss.backward()
            loss += part_loss.detach()
        if step == 0:
            first = {"loss": loss, "gradients": {key: p.grad for key, p in model.named_parameters() if p.requires_grad}}
            first["gradients"] = {key: grad.clone() for key, grad in first["gradients"].items()}
        model.before_step(step / num_steps)
        optimizer.step()
        model.after_step(step / num_steps)
    return {**first, "start": start, "state": dict(model.state_dict())}


def norm_options(name, world_size, in_one_process):
    """Batch norm over the samples of each process for MoCo, of all processes for the others."""
    if name != "MoCo":
        return ["MODEL.BN.NUM_SYNC_DEVICES", world_size]
    return ["MODEL.BN.GROUP_SIZE", NUM_VIDEOS // world_size if in_one_process else 0]


def assert_same(actual, expected, skip=()):
    assert actual.keys() == expected.keys()
    for key, value in actual.items():
        if not any(part in key for part in skip):
            torch.testing.assert_close(
                value, expected[key], rtol=1e-8, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}"
            )


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("BYOL", []),
        ("MoCo", []),
        ("MoCo", ["MODEL.MOCO.MULTIPLE_POSITIVES", "mean", "MODEL.MOCO.SHUFFLE_BN", False]),
        ("SimCLR", []),
        ("SimCLR", ["MODEL.SIMCLR.MULTIPLE_POSITIVES", "mean"]),
        ("SwAV", ["INPUT.NUM_CLIPS", 3, "MODEL.SWAV.QUEUE_SIZE", 11, "MODEL.SWAV.QUEUE_START_EPOCHS", 0.0]),
    ],
)
def test_processes_equal_one_with_the_whole_batch(run_distributed, build_method, make_clips, name, options, world_size):
    """Loss, gradients, and after 4 steps: weights, momentum encoder, queue and prototypes."""
    arguments = build_method, make_clips, name
    whole = train(*arguments, options + norm_options(name, world_size, in_one_process=True), num_steps=4)
    results = run_distributed(
        train, world_size, *arguments, options + norm_options(name, world_size, in_one_process=False), 4
    )
    mean_loss = sum(result["loss"] for result in results) / world_size
    torch.testing.assert_close(mean_loss, whole["loss"], rtol=1e-10, atol=1e-10)
    # MoCo's batch norms are those of one process each, so are their running statistics.
    skip = ["running_", "num_batches"] if name == "MoCo" else []
    for result in results:
        assert_same(result["gradients"], whole["gradients"])
        assert_same(result["state"], whole["state"], skip)


@pytest.mark.parametrize("name", METHODS)
def test_processes_agree_at_the_start_and_after_50_steps_whatever_their_seeds(
    run_distributed, build_method, make_clips, name
):
    options = ["INPUT.NUM_CLIPS", 3, "MODEL.MOCO.QUEUE_SIZE", 50, "MODEL.SWAV.QUEUE_SIZE", 50]
    results = run_distributed(train, 2, build_method, make_clips, name, options, 50, True)
    for when in ("start", "state"):
        for key, value in results[0][when].items():
            if "running_" not in key:
                assert torch.equal(results[1][when][key], value), f"{when}: {key}"
    if name == "MoCo":
        queue = {key[6:]: value for key, value in results[0]["state"].items() if key.startswith("queue.")}
        assert queue["num_items"] == 50 * NUM_CLIPS * NUM_VIDEOS
        # Of 24 keys a step, 50 are those of the last two and two of the one before.
        assert sorted(queue["added"].tolist()) == [48] * 2 + [49] * 24 + [50] * 24


def keys_of_first_video(build_method, make_clips, options):
    """Each process' first key, and again with the other videos of this process replaced."""
    model = build_method("MoCo", options)
    (clip,) = own_share(make_clips(1, NUM_VIDEOS))
    keys = [model.embed_keys(clip, 0)[0]]
    for rank in range(comm.get_world_size()):
        changed = clip.clone()
        if comm.get_rank() == rank:
            changed[1:] = 255 - changed[1:]
        keys.append(model.embed_keys(changed, 0)[0])
    return torch.stack(keys)


@pytest.mark.parametrize("shuffle", [True, False])
def test_shuffling_takes_keys_away_from_their_own_process_batch(run_distributed, build_method, make_clips, shuffle):
    results = run_distributed(keys_of_first_video, 2, build_method, make_clips, ["MODEL.MOCO.SHUFFLE_BN", shuffle])
    order = torch.randperm(NUM_VIDEOS, generator=torch.Generator().manual_seed(0))
    shares = order.split(NUM_VIDEOS // 2) if shuffle else torch.arange(NUM_VIDEOS).split(NUM_VIDEOS // 2)
    for rank, keys in enumerate(results):
        first = rank * NUM_VIDEOS // 2
        with_first = next(set(share.tolist()) for share in shares if first in share)
        for changed in range(2):
            others = set(range(changed * NUM_VIDEOS // 2 + 1, (changed + 1) * NUM_VIDEOS // 2))
            same = torch.allclose(keys[1 + changed], keys[0], rtol=1e-9, atol=1e-12)
            assert same == with_first.isdisjoint(others)
