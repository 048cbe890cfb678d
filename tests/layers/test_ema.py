import math

import pytest
import torch
from torch import nn

from vdet_ssl.layers import momentum_copy, momentum_schedule, update_ema


def test_momentum_is_annealed_by_half_a_cosine():
    momentum, K = momentum_schedule(0.996, anneal=True), 8
    for k in range(K):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * k / K) + 1) / 2
        assert momentum(k / K) == pytest.approx(expected, rel=1e-13)
    assert momentum(0.0) == 0.996
    assert momentum(1.0) == 1.0


def test_momentum_is_constant():
    momentum = momentum_schedule(0.99, anneal=False)
    assert momentum(0.0) == momentum(0.7) == 0.99


def test_average_of_the_parameters_alone():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    average = momentum_copy(module)
    assert not any(p.requires_grad for p in average.parameters())
    start = [p.clone() for p in average.parameters()]
    for p in module.parameters():
        nn.init.normal_(p)
    module[1].running_mean.fill_(5.0)
    for _ in range(2):
        update_ema(average, module, 0.9)
    for p, first, target in zip(average.parameters(), start, module.parameters(), strict=True):
        torch.testing.assert_close(p, 0.9 * (0.9 * first + 0.1 * target) + 0.1 * target, rtol=1e-12, atol=1e-12)
    assert not average[1].running_mean.any()


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_extreme_momenta_are_exact(momentum):
    module = nn.Linear(3, 4)
    average = momentum_copy(module)
    nn.init.normal_(module.weight)
    before = average.weight.clone()
    update_ema(average, module, momentum)
    assert torch.equal(average.weight, before if momentum else module.weight)
