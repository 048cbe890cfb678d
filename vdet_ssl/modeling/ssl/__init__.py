from .base import LossPart, SSLMethod
from .byol import BYOL
from .encoder import Encoder
from .moco import MoCo
from .simclr import SimCLR
from .swav import SwAV

__all__ = ["BYOL", "Encoder", "LossPart", "MoCo", "SSLMethod", "SimCLR", "SwAV"]
