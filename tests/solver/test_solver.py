import math

import pytest
import torch
from detectron2.solver import build_optimizer as build_detectron2_optimizer
from torch import nn

from vdet_ssl.config import get_cfg
from vdet_ssl.errors import ConfigError
from vdet_ssl.solver import LARS, build_lr_multiplier, build_optimizer, resolve_schedule


def naive_lars(w, grads, *, lr, momentum, weight_decay, trust, adapt):
    """LARS as in You et al. (2017), one parameter, plain Python floats."""
    w, v = list(w), [0.0] * len(w)
    for grad in grads:
        g = [gi + weight_decay * wi for gi, wi in zip(grad, w, strict=True)]
        norm_w, norm_g = math.hypot(*w), math.hypot(*g)
        scale = trust * norm_w / norm_g if adapt and norm_w > 0 and norm_g > 0 else 1.0
        v = [momentum * vi + scale * gi for vi, gi in zip(v, g, strict=True)]
        w = [wi - lr * vi for wi, vi in zip(w, v, strict=True)]
    return w


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("start", [[0.5, -2.0, 1.5], [0.0, 0.0, 0.0]])
def test_lars_follows_its_definition(adapt, start):
    grads = [[0.1, 0.2, -0.3], [1.0, 0.0, 0.5], [-0.2, 0.4, 0.1]]
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = LARS([{"params": [w], "adapt": adapt}], 0.5, momentum=0.9, weight_decay=0.01, trust_coefficient=0.001)
    for grad in grads:
        w.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
    expected = naive_lars(start, grads, lr=0.5, momentum=0.9, weight_decay=0.01, trust=0.001, adapt=adapt)
    torch.testing.assert_close(w.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_leaves_a_parameter_alone_whose_gradient_is_zero(nesterov):
    """Weight decay alone would move it by lr * trust_coefficient * ||w||, however small the decay is."""
    still, other = (nn.Parameter(torch.tensor([3.0, -4.0])) for _ in range(2))
    settings = {"momentum": 0.9, "weight_decay": 1e-6, "trust_coefficient": 0.001, "nesterov": nesterov}
    optimizer = LARS([still, other], 1.0, **settings)
    still.grad, other.grad = torch.zeros(2), torch.tensor([1e-3, 0.0])
    optimizer.step()
    assert still.tolist() == [3.0, -4.0]
    assert other.tolist() != [3.0, -4.0]
    still.grad = torch.tensor([float("nan"), 0.0])
    optimizer.step()
    assert still.isnan().any()


def model_with_norms():
    return nn.Sequential(nn.Conv3d(3, 4, 1, bias=True), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(4, 2))


def test_lars_leaves_bias_and_norm_alone_and_skips_frozen_parameters():
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.WEIGHT_DECAY = "LARS", 0.1
    model = model_with_norms()
    model[3].weight.requires_grad = False
    adapted, others = build_optimizer(cfg, model).param_groups
    assert [p.shape for p in adapted["params"]] == [(4, 3, 1, 1, 1)]
    assert adapted["adapt"] and adapted["weight_decay"] == 0.1
    assert len(others["params"]) == 4 and not others["adapt"] and others["weight_decay"] == 0.0


def test_sgd_decays_norms_and_biases_by_their_own_keys():
    """A norm's bias is a bias, as in detectron2."""
    cfg = get_cfg()
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM, cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.1, 0.01, 0.2
    groups = build_optimizer(cfg, model_with_norms()).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 0.1), (2, 0.2), (1, 0.01), (1, 0.2)]


def by_name(optimizer, model):
    """name of each parameter -> its group."""
    names = {p: name for name, p in model.named_parameters()}
    return {names[p]: group for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", ["SGD", "LARS"])
def test_rates_and_decays_are_those_of_detectron2(name):
    keys = {"BASE_LR": 2.0, "WEIGHT_DECAY": 0.1, "WEIGHT_DECAY_NORM": 0.01, "WEIGHT_DECAY_BIAS": 0.2}
    cfg, model = get_cfg(), model_with_norms()
    for key, value in {**keys, "BIAS_LR_FACTOR": 3.0, "NESTEROV": True}.items():
        cfg.SOLVER[key] = value
    expected = by_name(build_detectron2_optimizer(cfg, model), model)
    cfg.SOLVER.OPTIMIZER = name
    groups = by_name(build_optimizer(cfg, model), model)
    for key in ("lr", "weight_decay", "momentum", "nesterov"):
        assert {n: g[key] for n, g in groups.items()} == {n: g[key] for n, g in expected.items()}
    assert {n: g["lr"] for n, g in groups.items()}["0.bias"] == 6.0
    if name == "LARS":
        assert {n for n, g in groups.items() if g["adapt"]} == {"0.weight", "3.weight"}


def test_lars_decays_norms_and_biases_only_if_asked_to():
    cfg, model = get_cfg(), model_with_norms()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = "LARS", 0.1, 0.01
    decays = {n: g["weight_decay"] for n, g in by_name(build_optimizer(cfg, model), model).items()}
    norms = {"1.weight": 0.01, "1.bias": 0.01}
    assert decays == {"0.weight": 0.1, "0.bias": 0.0, **norms, "3.weight": 0.1, "3.bias": 0.0}


@pytest.mark.parametrize("name", ["SGD", "LARS"])
def test_the_groups_are_those_of_checkpoints_written_before(name):
    """Weights, biases, norms (LARS: the latter two in one), whose order optimizer states depend on."""
    cfg, model = get_cfg(), model_with_norms()
    cfg.SOLVER.OPTIMIZER = name
    names = {p: n for n, p in model.named_parameters()}
    groups = [[names[p] for p in group["params"]] for group in build_optimizer(cfg, model).param_groups]
    weights, biases, norms = ["0.weight", "3.weight"], ["0.bias", "3.bias"], ["1.weight", "1.bias"]
    assert groups == ([weights, biases, norms] if name == "SGD" else [weights, biases + norms])


def test_a_state_of_lars_from_before_nesterov_is_read():
    cfg, model = get_cfg(), model_with_norms()
    cfg.SOLVER.OPTIMIZER = "LARS"
    optimizer = build_optimizer(cfg, model)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["nesterov"]
    optimizer.load_state_dict(state)
    other = model_with_norms()
    other.load_state_dict(model.state_dict())
    take_step(optimizer, model)
    take_step(build_optimizer(cfg, other), other)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def take_step(optimizer, model, scale=1.0):
    """Set gradients that follow from the parameters' shapes, let the optimizer step; return the gradients it took."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = scale * torch.randn(p.shape, generator=generator)
    optimizer.step()
    return [p.grad for p in model.parameters()]


def test_lars_without_adaption_is_sgd_with_and_without_nesterov():
    for nesterov in (False, True):
        torch.manual_seed(0)
        ours, theirs = (nn.Linear(3, 2) for _ in range(2))
        theirs.load_state_dict(ours.state_dict())
        kwargs = {"momentum": 0.9, "weight_decay": 0.1, "nesterov": nesterov}
        groups = [{"params": list(ours.parameters()), "adapt": False}]
        lars, sgd = (
            LARS(groups, 0.5, trust_coefficient=1.0, **kwargs),
            torch.optim.SGD(theirs.parameters(), 0.5, **kwargs),
        )
        for _ in range(3):
            take_step(lars, ours)
            take_step(sgd, theirs)
        torch.testing.assert_close(ours.weight, theirs.weight)


@pytest.mark.parametrize("name", ["SGD", "LARS"])
def test_nesterov_needs_momentum(name):
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV = name, 0.0, True
    with pytest.raises(ConfigError, match="SOLVER.NESTEROV needs a SOLVER.MOMENTUM"):
        build_optimizer(cfg, model_with_norms())


@pytest.mark.parametrize("name", ["SGD", "LARS"])
@pytest.mark.parametrize("kind", ["value", "norm", "full_model"])
def test_gradients_are_clipped_before_the_step(name, kind):
    cfg, model = get_cfg(), model_with_norms()
    model[0].weight.requires_grad = False
    clip = cfg.SOLVER.CLIP_GRADIENTS
    cfg.SOLVER.OPTIMIZER, clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE = name, True, kind, 0.5
    optimizer = build_optimizer(cfg, model)
    frozen, *grads = take_step(optimizer, model, scale=10.0)
    assert frozen.abs().max() > 0.5
    if kind == "value":
        assert [g.abs().max().item() for g in grads] == [0.5] * len(grads)
    elif kind == "norm":
        assert [g.norm().item() for g in grads] == pytest.approx([0.5] * len(grads), rel=1e-4)
    else:
        assert torch.cat([g.flatten() for g in grads]).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_the_p_of_the_norm_is_honoured():
    cfg, model = get_cfg(), model_with_norms()
    clip = cfg.SOLVER.CLIP_GRADIENTS
    clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE = True, "full_model", 0.5, float("inf")
    grads = take_step(build_optimizer(cfg, model), model, scale=10.0)
    assert max(g.abs().max().item() for g in grads) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("name", ["SGD", "LARS"])
def test_a_model_takes_the_steps_that_detectron2s_solver_takes(name):
    """With LARS: of parameters that it does not adapt."""
    steps = []
    for build in (build_optimizer, build_detectron2_optimizer):
        cfg = get_cfg()
        cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY_BIAS, cfg.SOLVER.BIAS_LR_FACTOR = 0.1, 0.2, 2.0
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.NESTEROV = True, True
        torch.manual_seed(0)
        model = model_with_norms()
        if build is build_optimizer:
            cfg.SOLVER.OPTIMIZER = name
        optimizer = build(cfg, model)
        for _ in range(3):
            take_step(optimizer, model, scale=3.0)
        steps.append({n: p.detach() for n, p in model.named_parameters() if name == "SGD" or p.dim() == 1})
    torch.testing.assert_close(*steps)


def test_an_unknown_optimizer_or_schedule_is_named():
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER = "Adam"
    with pytest.raises(ValueError, match="'Adam'"):
        build_optimizer(cfg, model_with_norms())
    cfg.SOLVER.LR_SCHEDULER_NAME = "exp"
    with pytest.raises(ValueError, match="'exp'"):
        build_lr_multiplier(cfg)


def test_cosine_is_the_papers_half_period_and_warm_up_is_linear():
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = 1000
    cosine = build_lr_multiplier(cfg)
    for n in (0, 1, 250, 999):
        assert cosine(n / 1000) == pytest.approx(0.5 * (math.cos(n / 1000 * math.pi) + 1))
    cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR = 100, 0.1
    warm = build_lr_multiplier(cfg)
    assert warm(0.0) == pytest.approx(0.1)
    assert warm(0.05) == pytest.approx((0.1 + cosine(0.1)) / 2)
    assert warm(0.5) == pytest.approx(cosine(0.5))


def test_steps_divide_by_ten_at_the_epochs_of_section_b3():
    cfg = get_cfg()
    solver = cfg.SOLVER
    solver.LR_SCHEDULER_NAME, solver.MAX_EPOCHS, solver.STEP_EPOCHS = "WarmupMultiStepLR", 32.0, (16, 24, 28)
    solver.IMS_PER_BATCH = 8
    resolve_schedule(cfg, num_samples=800)
    multiplier = build_lr_multiplier(cfg)
    rates = [multiplier((epoch + 0.5) / 32) for epoch in (0, 15, 16, 23, 24, 27, 28, 31)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_epochs_become_iterations_and_the_rate_scales_once():
    cfg = get_cfg()
    solver = cfg.SOLVER
    solver.IMS_PER_BATCH, solver.ACCUMULATION_STEPS, solver.REFERENCE_BATCH_SIZE, solver.BASE_LR = 32, 2, 512, 4.8
    solver.MAX_EPOCHS, solver.WARMUP_EPOCHS, solver.CHECKPOINT_EPOCHS, solver.EVAL_EPOCHS = 10.0, 2.0, 5.0, 0.0
    for _ in range(2):
        resolve_schedule(cfg, num_samples=6400)
        assert (solver.MAX_ITER, solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD) == (1000, 200, 500)
        assert solver.BASE_LR == pytest.approx(4.8 / 8)


def schedule(*overrides):
    """A config with these keys of SOLVER, given as name, value, ..., for 800 samples in batches of 8."""
    cfg = get_cfg()
    cfg.SOLVER.IMS_PER_BATCH = 8
    for name, value in zip(overrides[::2], overrides[1::2], strict=True):
        cfg.SOLVER[name] = value
    resolve_schedule(cfg, num_samples=800)
    return cfg


@pytest.mark.parametrize("length", [("MAX_EPOCHS", 1.0, "WARMUP_EPOCHS", 1.0), ("MAX_ITER", 50, "WARMUP_ITERS", 60)])
@pytest.mark.parametrize("name", ["WarmupCosineLR", "WarmupMultiStepLR"])
def test_warm_up_as_long_as_training_is_refused(name, length):
    """The rate would fall from WARMUP_FACTOR of the base to 0 and never come near it."""
    with pytest.raises(ConfigError, match=r"^warm-up, SOLVER.WARMUP_ITERS \d+.*, takes 1[02]0% of the training"):
        build_lr_multiplier(schedule("LR_SCHEDULER_NAME", name, "STEPS", (), *length))


def test_warm_up_of_more_than_half_of_training_is_warned_of(caplog):
    build_lr_multiplier(schedule("MAX_ITER", 100, "WARMUP_ITERS", 50))
    assert "Warm-up" not in caplog.text
    build_lr_multiplier(schedule("MAX_EPOCHS", 2.0, "WARMUP_EPOCHS", 1.1))
    assert "SOLVER.WARMUP_ITERS 110 (SOLVER.WARMUP_EPOCHS 1.1), takes 55% of the training" in caplog.text


@pytest.mark.parametrize(
    "steps",
    [
        ("MAX_ITER", 100, "STEPS", (60, 40)),
        ("MAX_ITER", 100, "STEPS", (40, 40)),
        ("MAX_ITER", 100, "STEPS", (0, 40)),  # of a fraction of an epoch
        ("MAX_ITER", 100, "STEPS", (40, 100)),
        ("MAX_EPOCHS", 2.0, "STEP_EPOCHS", (1, 3)),
    ],
)
def test_steps_out_of_order_or_beyond_the_end_are_refused(steps):
    with pytest.raises(
        ConfigError, match=r"^SOLVER.STEPS \(.*\) has to rise.* below the end of training, SOLVER.MAX_ITER"
    ):
        build_lr_multiplier(schedule("LR_SCHEDULER_NAME", "WarmupMultiStepLR", *steps))
