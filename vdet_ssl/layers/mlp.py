"""The MLP heads of section 3.2: projection and prediction."""

from collections.abc import Callable

from fvcore.nn.weight_init import c2_xavier_fill
from torch import nn


class MLP(nn.Sequential):
    """Linear layers with ReLU between them, float (N, C) -> (N, out_dim); weights as in [27], biases 0 (B.1).

    The hidden layers are normalised, the output is not; a layer before a norm has no bias.

    Args:
        in_dim, hidden_dim, out_dim: numbers of channels; all hidden layers have the same.
        num_layers: linear layers (Table 16); 1 is one linear map.
        norm: callable, number of channels -> nn.Module (see `norm_factory`); None: no norm.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        num_layers: int,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        layers: list[nn.Module] = []
        for _ in range(num_layers - 1):
            layers.append(nn.Linear(in_dim, hidden_dim, bias=norm is None))
            if norm is not None:
                layers.append(norm(hidden_dim))
            layers.append(nn.ReLU(inplace=True))
            in_dim = hidden_dim
        layers.append(nn.Linear(in_dim, out_dim))
        for layer in layers:
            if isinstance(layer, nn.Linear):
                c2_xavier_fill(layer)
        super().__init__(*layers)
