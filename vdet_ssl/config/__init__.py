from vdet_ssl.config.check import check_values, refuse_unread
from vdet_ssl.config.config import CfgNode, add_keys, get_cfg, load_cfg
from vdet_ssl.config.key import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, Key, Range
from vdet_ssl.config.settings import EPOCHS, read_yaml
from vdet_ssl.errors import ConfigError

__all__ = [
    "COUNT",
    "EPOCHS",
    "FRACTION",
    "NOT_NEGATIVE",
    "POSITIVE",
    "CfgNode",
    "ConfigError",
    "Key",
    "Range",
    "add_keys",
    "check_values",
    "get_cfg",
    "load_cfg",
    "read_yaml",
    "refuse_unread",
]
