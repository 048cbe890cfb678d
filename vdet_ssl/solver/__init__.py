from vdet_ssl.solver.build import build_lr_multiplier, build_optimizer, resolve_schedule
from vdet_ssl.solver.lars import LARS

__all__ = ["LARS", "build_lr_multiplier", "build_optimizer", "resolve_schedule"]
