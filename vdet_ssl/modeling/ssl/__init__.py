from .base import LossPart, SSLMethod
from .byol import BYOL
from .encoder import Encoder

__all__ = ["BYOL", "Encoder", "LossPart", "SSLMethod"]
