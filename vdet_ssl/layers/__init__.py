from vdet_ssl.layers.batch_norm import BatchNorm, FrozenBatchNorm, norm_factory
from vdet_ssl.layers.batch_shuffle import shuffled
from vdet_ssl.layers.ema import momentum_copy, momentum_schedule, update_ema
from vdet_ssl.layers.gather import gather
from vdet_ssl.layers.mlp import MLP
from vdet_ssl.layers.normalize import normalize_clip
from vdet_ssl.layers.queue import FIFOQueue
from vdet_ssl.layers.sinkhorn import sinkhorn

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
