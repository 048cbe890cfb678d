import math

import pytest
import torch
from torch import nn

from vdet_ssl.layers import MLP


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_layers_and_shapes(num_layers):
    mlp = MLP(6, 10, 4, num_layers, norm=nn.BatchNorm1d)
    linear = [layer for layer in mlp if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == [(10, 6), (10, 10), (4, 10)][: num_layers - 1] + [
        (4, 6 if num_layers == 1 else 10)
    ]
    # A bias before a norm would have no effect; the output has a bias and no norm.
    assert [layer.bias is not None for layer in linear] == [False] * (num_layers - 1) + [True]
    assert sum(isinstance(layer, nn.BatchNorm1d) for layer in mlp) == num_layers - 1
    assert isinstance(mlp[-1], nn.Linear)
    assert mlp(torch.randn(3, 6)).shape == (3, 4)


def test_xavier_initialisation():
    mlp = MLP(100, 400, 50, 2)
    for layer in (mlp[0], mlp[-1]):
        bound = math.sqrt(3 / layer.in_features)  # uniform with variance 1 / fan-in
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()
