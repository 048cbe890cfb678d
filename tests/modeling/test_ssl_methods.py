"""The four methods in one process: their losses from the equations, their parts, their own updates."""

import math

import pytest
import torch
from detectron2.utils.events import EventStorage

from vdet_ssl.errors import ConfigError

METHODS = ["BYOL", "MoCo", "SimCLR", "SwAV"]
NUM_CLIPS = [2, 3, 4]  # two for rho = 1
NUM_VIDEOS, ALPHA = 3, 0.1


def as_batch(clips):
    """The list[dict] that the loader yields."""
    return [{"clips": [clip[n] for clip in clips]} for n in range(len(clips[0]))]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(model, expected, rtol=1e-9):
    grads = gradients(model)
    assert grads.keys() == expected.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=rtol, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


def one_graph(model, clips):
    """Loss and gradients of detectron2's contract: forward of the whole batch."""
    model.zero_grad()
    (loss,) = model(as_batch(clips)).values()
    loss.backward()
    return loss.detach(), gradients(model)


def sim(q, k):
    return (q * k).sum() / (q.norm() * k.norm())


def naive_byol(model, clips):
    """2 x eq. (2), mean over the clips as queries and over the videos."""
    total = 0
    for i, clip in enumerate(clips):
        queries = model.predictor(model.encoder(model.normalize(clip)))
        for j, other in enumerate(clips):
            with torch.no_grad():
                keys = model.momentum_encoder(model.normalize(other))
            if i != j:
                total = total - 2 * sum(sim(q, k) for q, k in zip(queries, keys, strict=True))
    return total / (len(clips) * NUM_VIDEOS)


def info_nce(q, positives, negatives, mode):
    if mode == "mean":
        return sum(info_nce(q, [k], negatives, "sum") for k in positives) / len(positives)
    above = sum(torch.exp(sim(q, k) / ALPHA) for k in positives)
    return -torch.log(above / (above + sum(torch.exp(sim(q, k) / ALPHA) for k in negatives)))


def naive_moco(model, clips, mode="sum"):
    """Eq. (1) with the queue as negatives."""
    total = 0
    with torch.no_grad():
        keys = [model.momentum_encoder(model.normalize(clip)) for clip in clips]
    for i, clip in enumerate(clips):
        for n, q in enumerate(model.encoder(model.normalize(clip))):
            positives = [keys[j][n] for j in range(len(clips)) if j != i]
            total = total + info_nce(q, positives, model.queue.items, mode)
    return total / (len(clips) * NUM_VIDEOS)


def naive_simclr(model, clips, mode="sum"):
    """Eq. (1) with all clips of the other videos as negatives."""
    total = 0
    z = [model.encoder(model.normalize(clip)) for clip in clips]
    for i in range(len(clips)):
        for n in range(NUM_VIDEOS):
            positives = [z[j][n] for j in range(len(clips)) if j != i]
            negatives = [z[j][m] for j in range(len(clips)) for m in range(NUM_VIDEOS) if m != n]
            total = total + info_nce(z[i][n], positives, negatives, mode)
    return total / (len(clips) * NUM_VIDEOS)


def naive_swav(model, clips):
    """Eq. (3), plus the targets' entropy, with Sinkhorn-Knopp over each clip's batch."""
    prototypes = model.prototypes.weight
    prototypes.data /= prototypes.data.norm(dim=1, keepdim=True)
    scores, targets = [], []
    for clip in clips:
        z = model.encoder(model.normalize(clip))
        scores.append(z / z.norm(dim=1, keepdim=True) @ prototypes.T)
        q = (scores[-1].detach() / 0.05).exp()
        for _ in range(3):
            q = q / q.sum(dim=0, keepdim=True)
            q = q / q.sum(dim=1, keepdim=True)
        targets.append(q)
    total = 0
    for i in range(len(clips)):
        for j in range(len(clips)):
            if i != j:
                for n in range(NUM_VIDEOS):
                    p = (scores[i][n] / ALPHA).exp()
                    total = total - (targets[j][n] * (p / p.sum()).log()).sum()
    return total / (len(clips) * (len(clips) - 1) * NUM_VIDEOS)


@pytest.mark.parametrize("num_clips", NUM_CLIPS)
@pytest.mark.parametrize(
    ("name", "naive", "options", "arguments"),
    [
        ("BYOL", naive_byol, [], []),
        ("MoCo", naive_moco, [], []),
        ("MoCo", naive_moco, ["MODEL.MOCO.MULTIPLE_POSITIVES", "mean"], ["mean"]),
        ("SimCLR", naive_simclr, [], []),
        ("SimCLR", naive_simclr, ["MODEL.SIMCLR.MULTIPLE_POSITIVES", "mean"], ["mean"]),
        ("SwAV", naive_swav, [], []),
    ],
)
def test_loss_and_gradients_are_the_equations(build_method, make_clips, name, naive, options, arguments, num_clips):
    model, clips = build_method(name, options), make_clips(num_clips, NUM_VIDEOS)
    expected = naive(model, clips, *arguments)
    expected.backward()
    expected_gradients = gradients(model)
    loss, _ = one_graph(model, clips)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-10)
    assert_same_gradients(model, expected_gradients)


@pytest.mark.parametrize("num_clips", NUM_CLIPS)
@pytest.mark.parametrize("name", METHODS)
def test_parts_one_after_another_give_the_gradients_of_one_graph(build_method, make_clips, name, num_clips):
    model, clips = build_method(name), make_clips(num_clips, NUM_VIDEOS)
    loss, expected = one_graph(model, clips)
    model.zero_grad()
    parts = model.split(clips)
    assert len(parts) == (num_clips if name in ("BYOL", "MoCo") else 1)
    assert sum(part.weight for part in parts) == pytest.approx(1.0)
    total = 0.0
    for part in parts:
        (part_loss,) = model(part).values()
        part_loss.backward()
        total += part_loss.detach()
    torch.testing.assert_close(total, loss)
    assert_same_gradients(model, expected)


@pytest.mark.parametrize("name", ["BYOL", "MoCo"])
def test_accumulated_gradients_are_those_of_the_larger_batch(build_method, make_clips, name):
    """Batch norm aside, and not for SimCLR and SwAV, whose loss is one of the whole batch."""
    model = build_method(name, ["MODEL.RESNETS.NORM", "FrozenBN", f"MODEL.{name.upper()}.MLP_NORM", ""])
    clips = make_clips(3, 6)
    _, expected = one_graph(model, clips)
    model.zero_grad()
    for half in (slice(0, 3), slice(3, 6)):
        (loss,) = model(as_batch([clip[half] for clip in clips])).values()
        (loss / 2).backward()
    assert_same_gradients(model, expected)


@pytest.mark.parametrize("name", METHODS)
def test_every_trainable_parameter_gets_a_gradient_and_no_other(build_method, make_clips, name):
    model = build_method(name)
    one_graph(model, make_clips(2, NUM_VIDEOS))
    for parameter_name, p in model.named_parameters():
        if parameter_name.startswith("momentum_encoder."):
            assert not p.requires_grad and p.grad is None, parameter_name
        else:
            assert p.requires_grad and p.grad.any(), parameter_name


@pytest.mark.parametrize("name", METHODS)
def test_one_clip_alone_is_refused(build_method, make_clips, name):
    with pytest.raises(ConfigError, match="two clips"):
        build_method(name)(as_batch(make_clips(1, NUM_VIDEOS)))


@pytest.mark.parametrize("name", ["BYOL", "MoCo"])
@pytest.mark.parametrize("anneal", [True, False])
def test_momentum_encoder_follows_the_annealed_rule(build_method, make_clips, name, anneal):
    model = build_method(name, [f"MODEL.{name.upper()}.ANNEAL_MOMENTUM", anneal])
    base = {"BYOL": 0.996, "MoCo": 0.994}[name]
    optimizer = torch.optim.SGD(model.encoder.parameters(), lr=1.0)
    average = [p.detach().clone() for p in model.encoder.parameters()]
    K = 5
    for k in range(K):
        one_graph(model, make_clips(2, NUM_VIDEOS, seed=k))
        optimizer.step()
        model.after_step(k / K)
        m = 1 - (1 - base) * (math.cos(math.pi * k / K) + 1) / 2 if anneal else base
        average = [m * a + (1 - m) * p.detach() for a, p in zip(average, model.encoder.parameters(), strict=True)]
        for p, expected in zip(model.momentum_encoder.parameters(), average, strict=True):
            torch.testing.assert_close(p, expected, rtol=1e-12, atol=1e-12)
    assert not torch.equal(average[0], next(model.encoder.parameters()))


def test_moco_queues_the_keys_of_all_clips_of_all_accumulated_batches(build_method, make_clips):
    model = build_method("MoCo", ["MODEL.MOCO.QUEUE_SIZE", 20])
    before, expected = model.queue.items.clone(), []
    for seed in range(2):
        clips = make_clips(3, NUM_VIDEOS, seed)
        with torch.no_grad():
            for clip in clips:
                keys = model.momentum_encoder(model.normalize(clip))
                expected.append(keys / keys.norm(dim=1, keepdim=True))
        for part in model.split(clips):
            model(part)
        assert torch.equal(model.queue.items, before)  # only negatives of earlier steps
    model.after_step(0.0)
    torch.testing.assert_close(model.queue.items[:18], torch.cat(expected))
    assert torch.equal(model.queue.items[18:], before[18:])
    one_graph(model, make_clips(2, NUM_VIDEOS))
    model.after_step(0.0)
    assert int(model.queue.num_items) == 24


def test_moco_shuffles_among_the_groups_of_one_process(build_method, make_clips):
    """A key depends on the samples of its group after shuffling, and on no others of its own group before it."""
    options = ["MODEL.BN.GROUP_SIZE", 2]
    model, clips = build_method("MoCo", options), make_clips(2, 6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))  # of the first clip of the first step
    keys = model.embed_keys(clips[0], 0)
    group = next(group for group in order.split(2) if 0 in group)
    outside = [n for n in range(6) if n not in group]
    changed = clips[0].clone()
    changed[outside] = 255 - changed[outside]
    torch.testing.assert_close(model.embed_keys(changed, 0)[0], keys[0])
    changed[group[group != 0]] //= 2
    assert not torch.allclose(model.embed_keys(changed, 0)[0], keys[0])


def test_simclr_says_that_one_video_has_no_negatives(build_method, make_clips):
    with pytest.raises(ConfigError, match="IMS_PER_BATCH"):
        one_graph(build_method("SimCLR", ["MODEL.SIMCLR.MLP_NORM", ""]), make_clips(2, 1))


@pytest.mark.parametrize("name", ["BYOL", "MoCo", "SimCLR", "SwAV"])
def test_a_batch_of_one_is_refused_where_norms_or_negatives_need_more(build_method, make_clips, name):
    """Two work; one works without a norm in the MLP where the loss needs no other videos of the batch."""
    for norm in ("BN", ""):
        model = build_method(name, [f"MODEL.{name.upper()}.MLP_NORM", norm])
        model.check_batch(2)
        one_graph(model, make_clips(2, 2))
        if norm == "" and name in ("BYOL", "MoCo"):
            model.check_batch(1)
            one_graph(model, make_clips(2, 1))
        else:
            reason = "normalises each value over one video alone" if norm else "tells a video from the others"
            with pytest.raises(ConfigError, match=f"^{name}.*{reason}"):
                model.check_batch(1)


def test_a_group_of_one_is_refused_too(build_method):
    with pytest.raises(ConfigError, match="a process has 4 of the 4 videos.*MODEL.BN.GROUP_SIZE"):
        build_method("BYOL", ["MODEL.BN.GROUP_SIZE", 1]).check_batch(4)


def test_with_a_queue_swav_takes_one_video(build_method):
    build_method("SwAV", ["MODEL.SWAV.MLP_NORM", "", "MODEL.SWAV.QUEUE_SIZE", 3]).check_batch(1)


def test_swav_freezes_prototypes_for_the_first_epoch(build_method, make_clips):
    model = build_method("SwAV")  # of 10 epochs
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for progress, frozen in [(0.0, True), (0.09, True), (0.1, False)]:
        one_graph(model, make_clips(2, NUM_VIDEOS))
        before = model.prototypes.weight.clone()
        torch.testing.assert_close(before.norm(dim=1), torch.ones(4).double())
        model.before_step(progress)
        optimizer.step()
        assert torch.equal(model.prototypes.weight, before) == frozen


def test_swav_without_epochs_does_not_freeze_and_says_so(build_method, make_clips, caplog):
    model = build_method("SwAV", ["SOLVER.MAX_EPOCHS", 0.0])
    assert "never frozen" in caplog.text
    one_graph(model, make_clips(2, NUM_VIDEOS))
    model.before_step(0.0)
    assert model.prototypes.weight.grad is not None


def test_swav_queue_widens_the_sinkhorn_batch_once_full(build_method, make_clips):
    options = ["MODEL.SWAV.QUEUE_SIZE", 5, "MODEL.SWAV.QUEUE_START_EPOCHS", 2.0]
    model, plain = build_method("SwAV", options), build_method("SwAV")
    embedded = []
    for step, progress in enumerate([0.1, 0.2, 0.3, 0.4]):
        clips = make_clips(2, NUM_VIDEOS, seed=step)
        loss, _ = one_graph(model, clips)
        plain_loss, _ = one_graph(plain, clips)
        model.after_step(progress)
        assert bool(torch.isclose(loss, plain_loss)) == (step < 3)  # 3 + 3 videos fill it after the third step
        if progress >= 0.2:
            z = torch.stack([model.encoder(model.normalize(clip)) for clip in clips], dim=1).detach()
            embedded.append(z / z.norm(dim=-1, keepdim=True))
    oldest_first = model.queue.items.roll(-(9 % 5), dims=0)
    torch.testing.assert_close(oldest_first, torch.cat(embedded)[-5:])


@pytest.mark.parametrize("name", METHODS)
def test_collapse_is_seen(build_method, make_clips, name):
    model, clips = build_method(name), make_clips(3, NUM_VIDEOS)
    with EventStorage() as storage:
        one_graph(model, clips)
        healthy = {key: value for key, (value, _) in storage.latest().items()}
    for parameter_name, p in model.named_parameters():
        if "projector" in parameter_name:
            torch.nn.init.ones_(p) if parameter_name.endswith("bias") else torch.nn.init.zeros_(p)
    with EventStorage() as storage:
        one_graph(model, clips)
        collapsed = {key: value for key, (value, _) in storage.latest().items()}
    assert 0 < healthy["embedding/std"] <= 1 / math.sqrt(5)
    assert -1 <= healthy["embedding/negative_similarity"] < 1
    assert collapsed["embedding/std"] == pytest.approx(0, abs=1e-6)
    assert collapsed["embedding/negative_similarity"] == pytest.approx(1)
    if name == "MoCo":
        assert healthy["queue_age"] == 1
    if name == "SwAV":
        assert 0 < healthy["prototypes/entropy"] <= 1
        assert collapsed["prototypes/used"] == 1 / 4


def test_monitored_values_are_their_definitions(build_method, make_clips):
    model, clips = build_method("SimCLR"), make_clips(3, NUM_VIDEOS)
    with torch.no_grad():
        z = torch.stack([model.encoder(model.normalize(clip)) for clip in clips])
        z = z / z.norm(dim=-1, keepdim=True)
    with EventStorage() as storage:
        model(as_batch(clips))
    seen = {key: value for key, (value, _) in storage.latest().items()}
    same = [float(z[0, n] @ z[j, n]) for j in (1, 2) for n in range(NUM_VIDEOS)]
    other = [float(z[0, n] @ z[j, m]) for j in (1, 2) for n in range(NUM_VIDEOS) for m in range(NUM_VIDEOS) if m != n]
    assert seen["embedding/std"] == pytest.approx(float(z[0].std(dim=0, correction=0).mean()))
    assert seen["embedding/positive_similarity"] == pytest.approx(sum(same) / len(same))
    assert seen["embedding/negative_similarity"] == pytest.approx(sum(other) / len(other))


def test_clips_of_several_sizes_are_refused(build_method, make_clips):
    batch = as_batch(make_clips(2, 2))
    batch[1]["clips"][1] = batch[1]["clips"][1][:, :6]
    with pytest.raises(ConfigError, match=r"need one size, these have \[\(6, 8\), \(8, 8\)\]"):
        build_method("BYOL").stack_clips(batch)
