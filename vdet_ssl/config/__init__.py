from vdet_ssl.config.check import check_schedule, check_values
from vdet_ssl.config.config import CfgNode, get_cfg, load_cfg
from vdet_ssl.errors import ConfigError

__all__ = ["CfgNode", "ConfigError", "check_schedule", "check_values", "get_cfg", "load_cfg"]
