import math

import pytest
import torch
from torch import nn

from vdet_ssl.config import get_cfg
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
    cfg = get_cfg()
    cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM, cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.1, 0.01, 0.2
    groups = build_optimizer(cfg, model_with_norms()).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 0.1), (2, 0.2), (2, 0.01)]


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
