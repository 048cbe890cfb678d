"""detectron2's CfgNode, strict: unknown and duplicate keys are refused, with file, line and the nearest key there is."""

import difflib
import os

import yaml
from detectron2.config import CfgNode as _CfgNode
from detectron2.config import get_cfg as _get_cfg
from fvcore.common.config import BASE_KEY

from vdet_ssl.config.defaults import add_vdet_ssl_config
from vdet_ssl.errors import ConfigError


class CfgNode(_CfgNode):
    """detectron2's CfgNode with strict `merge_from_file` and `merge_from_list`; both raise ConfigError.

    Beside a value of the key's own type they take a whole number for a float, a list for a tuple (and back), and one
    string for a list of strings.
    """

    def merge_from_file(self, cfg_filename, allow_unsafe=False):
        if not os.path.isfile(cfg_filename):
            raise ConfigError(f"{cfg_filename}: there is no such config file")
        for key, (where, value) in _read_keys(cfg_filename).items():
            self._merge_value(key, value, where)

    def merge_from_list(self, cfg_list):
        """Merge [key, value, key, value, ...] as it stands on a command line."""
        if len(cfg_list) % 2:
            raise ConfigError(f"overrides come in pairs of KEY VALUE; {cfg_list[-1]!r} is left over")
        for key, value in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            self._merge_value(key, value, "command line")

    def key_names(self):
        """Return the dotted names of all keys, nodes included."""
        names = []
        for name, value in self.items():
            names.append(name)
            if isinstance(value, CfgNode):
                names += [f"{name}.{below}" for below in value.key_names()]
        return names

    def _merge_value(self, key, value, where):
        *path, name = key.split(".")
        node = self
        for below in path:
            node = node.get(below) if isinstance(node, CfgNode) else None
        if not isinstance(node, CfgNode) or name not in node:
            raise ConfigError(f"{where}: there is no key {key}; the nearest one is {_nearest(key, self.key_names())}")
        if self.is_frozen():
            raise ConfigError(f"{where}: {key} cannot be set any more, the config is frozen")
        old, value = node[name], node._decode_cfg_value(value)
        if isinstance(old, CfgNode) or not _fits(value, old):
            kind = "a group of keys" if isinstance(old, CfgNode) else f"a {type(old).__name__}, as in {old!r}"
            raise ConfigError(f"{where}: {key} takes {kind}, not {value!r}")
        if isinstance(old, list | tuple) and isinstance(value, str):
            value = [value]
        node[name] = value if old is None or value is None else type(old)(value)


def _fits(value, old):
    if old is None or value is None or type(value) is type(old):
        return True
    if isinstance(old, float):
        return type(value) is int
    return isinstance(old, list | tuple) and isinstance(value, list | tuple | str)


def _nearest(key, keys):
    same_name = [k for k in keys if k.split(".")[-1] == key.split(".")[-1]]
    return (difflib.get_close_matches(key, keys, 1, 0.8) or same_name or difflib.get_close_matches(key, keys, 1, 0))[0]


def get_cfg():
    """Return a config with detectron2's keys and this framework's, at their defaults."""
    cfg = _get_cfg()
    add_vdet_ssl_config(cfg)
    return CfgNode(cfg)


def load_cfg(config_file="", overrides=()):
    """Return the defaults overridden by a yaml file (and its _BASE_), then by [key, value, ...]; raises ConfigError."""
    cfg = get_cfg()
    if config_file:
        cfg.merge_from_file(config_file)
    cfg.merge_from_list(list(overrides))
    return cfg


def _read_keys(filename, above=()):
    """Read a yaml file and its _BASE_: dotted key -> ("file:line", value).

    Raises ConfigError on what is no yaml, on duplicate keys, and on a file that is among those `above` it.
    """
    if os.path.realpath(filename) in above:
        raise ConfigError(f"{filename}: it is its own {BASE_KEY}")
    above = (*above, os.path.realpath(filename))
    found = {}
    try:
        with open(filename, encoding="utf-8") as f:
            root = yaml.compose(f, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{filename}: expected KEY: value lines")
        if root is not None:
            _collect_keys(root, "", filename, found)
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"{filename}: not valid yaml: {e}") from None
    bases, below = found.pop(BASE_KEY, (None, []))[1], {}
    for base in [bases] if isinstance(bases, str) else bases:
        base = os.path.join(os.path.dirname(filename), os.path.expanduser(base))
        if not os.path.isfile(base):
            raise ConfigError(f"{filename}: its {BASE_KEY} {base} does not exist")
        below.update(_read_keys(base, above))  # of several, the later ones count
    found = {**below, **found}
    return found


def _collect_keys(node, prefix, filename, found):
    seen = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(f"{filename}:{line}: {prefix}{key} is set twice; it was set at line {seen[key]} before")
        seen[key] = line
        if isinstance(value_node, yaml.MappingNode):
            _collect_keys(value_node, f"{prefix}{key}.", filename, found)
        else:
            value = yaml.SafeLoader("").construct_object(value_node, deep=True)
            found[prefix + key] = (f"{filename}:{line}", value)
