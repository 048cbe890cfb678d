from .batch_norm import BatchNorm, FrozenBatchNorm, norm_factory
from .batch_shuffle import shuffled
from .ema import momentum_copy, momentum_schedule, update_ema
from .gather import gather
from .mlp import MLP
from .normalize import normalize_clip
from .queue import FIFOQueue
from .sinkhorn import sinkhorn

__all__ = [
    "MLP",
    "BatchNorm",
    "FIFOQueue",
    "FrozenBatchNorm",
    "gather",
    "momentum_copy",
    "momentum_schedule",
    "norm_factory",
    "normalize_clip",
    "shuffled",
    "sinkhorn",
    "update_ema",
]
