from vdet_ssl.layers.batch_norm import BatchNorm, FrozenBatchNorm, norm_factory
from vdet_ssl.layers.batch_shuffle import shuffled
from vdet_ssl.layers.ema import momentum_copy, momentum_schedule, update_ema
from vdet_ssl.layers.gather import gather
from vdet_ssl.layers.mlp import MLP
from vdet_ssl.layers.normalize import ClipNormalizer
from vdet_ssl.layers.queue import FIFOQueue
from vdet_ssl.layers.sinkhorn import sinkhorn

__all__ = [
    "MLP",
    "BatchNorm",
    "ClipNormalizer",
    "FIFOQueue",
    "FrozenBatchNorm",
    "gather",
    "momentum_copy",
    "momentum_schedule",
    "norm_factory",
    "shuffled",
    "sinkhorn",
    "update_ema",
]
