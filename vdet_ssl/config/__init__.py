from .check import check_values
from .config import CfgNode, ConfigError, get_cfg, load_cfg

__all__ = ["CfgNode", "ConfigError", "check_values", "get_cfg", "load_cfg"]
