from vdet_ssl.modeling.ssl.base import LossPart, SSLMethod, others
from vdet_ssl.modeling.ssl.byol import BYOL
from vdet_ssl.modeling.ssl.encoder import Encoder
from vdet_ssl.modeling.ssl.moco import MoCo
from vdet_ssl.modeling.ssl.simclr import SimCLR
from vdet_ssl.modeling.ssl.swav import SwAV

__all__ = ["BYOL", "Encoder", "LossPart", "MoCo", "SSLMethod", "SimCLR", "SwAV", "others"]
