from .batch_norm import BatchNorm, FrozenBatchNorm, norm_factory
from .ema import annealed_momentum, momentum_copy, update_ema
from .mlp import MLP

__all__ = [
    "MLP",
    "BatchNorm",
    "FrozenBatchNorm",
    "annealed_momentum",
    "momentum_copy",
    "norm_factory",
    "update_ema",
]
