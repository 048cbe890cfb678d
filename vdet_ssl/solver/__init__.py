from .build import build_lr_multiplier, build_optimizer, resolve_schedule
from .lars import LARS

__all__ = ["LARS", "build_lr_multiplier", "build_optimizer", "resolve_schedule"]
