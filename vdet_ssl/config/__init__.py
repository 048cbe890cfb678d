from .check import check_schedule, check_values
from .config import CfgNode, ConfigError, get_cfg, load_cfg

__all__ = ["CfgNode", "ConfigError", "check_schedule", "check_values", "get_cfg", "load_cfg"]
