"""detectron2's CfgNode, strict: unknown and duplicate keys are refused, with file, line and the nearest key there is."""

import difflib
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode as _CfgNode
from detectron2.config import get_cfg as _get_cfg
from yacs.config import CfgNode as _YacsNode

from vdet_ssl.config.defaults import add_vdet_ssl_config
from vdet_ssl.config.imports import import_module
from vdet_ssl.config.yaml_files import IMPORTS_KEY, Setting, Settings, read_yaml
from vdet_ssl.errors import ConfigError


class CfgNode(_CfgNode):
    """detectron2's CfgNode with strict `merge_from_file` and `merge_from_list`; both raise ConfigError.

    Beside a value of the key's own type they take a whole number for a float, a list for a tuple (and back), and one
    string for a list of strings.  The modules of IMPORTS are imported before anything is merged.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a key; a node of detectron2's class, as its projects add them, becomes one of this class."""
        if isinstance(value, _YacsNode):
            _adopt(value)
        super().__setitem__(name, value)

    def merge_from_file(self, cfg_filename: str | os.PathLike, allow_unsafe: bool = False) -> None:
        self.merge_settings(read_yaml(cfg_filename))

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merge [key, value, key, value, ...] as it stands on a command line."""
        self.merge_settings(read_overrides(cfg_list))

    def merge_settings(self, *settings: Settings) -> None:
        """Import the modules that any of the settings name, then merge these, the later ones over the earlier."""
        for some in settings:
            self._import(some.imports)
        for some in settings:
            for key, setting in some.keys.items():
                self._merge(key, setting)

    def key_names(self) -> list[str]:
        """Return the dotted names of all keys, nodes included."""
        names = []
        for name, value in self.items():
            names.append(name)
            if isinstance(value, CfgNode):
                names += [f"{name}.{below}" for below in value.key_names()]
        return names

    def _import(self, modules: dict[str, str]) -> None:
        """Import modules (name -> where it is named) and let them add their keys, each once."""
        for name, where in modules.items():
            if name in self[IMPORTS_KEY]:
                continue
            if self.is_frozen():
                raise ConfigError(f"{where}: {IMPORTS_KEY} cannot be set any more, the config is frozen")
            module = import_module(name, where)
            if hasattr(module, "add_config"):
                module.add_config(self)
            self[IMPORTS_KEY] = [*self[IMPORTS_KEY], name]

    def _merge(self, key: str, setting: Setting) -> None:
        *path, name = key.split(".")
        where, node = setting.where, self
        for below in path:
            node = node.get(below) if isinstance(node, CfgNode) else None
        if not isinstance(node, CfgNode) or name not in node:
            raise ConfigError(f"{where}: there is no key {key}; the nearest one is {_nearest(key, self.key_names())}")
        if self.is_frozen():
            raise ConfigError(f"{where}: {key} cannot be set any more, the config is frozen")
        old, value = node[name], node._decode_cfg_value(setting.value)
        if isinstance(old, CfgNode) or not _fits(value, old):
            kind = "a group of keys" if isinstance(old, CfgNode) else f"a {type(old).__name__}, as in {old!r}"
            raise ConfigError(f"{where}: {key} takes {kind}, not {value!r}")
        if isinstance(old, list | tuple) and isinstance(value, str):
            value = [value]
        node[name] = value if old is None or value is None else type(old)(value)


def _adopt(node: _YacsNode) -> None:
    """Make a node and all below it strict ones, in place: whoever made it may still be adding keys to it."""
    object.__setattr__(node, "__class__", CfgNode)
    for value in node.values():
        if isinstance(value, _YacsNode):
            _adopt(value)


def _fits(value: Any, old: Any) -> bool:
    if old is None or value is None or type(value) is type(old):
        return True
    if isinstance(old, float):
        return type(value) is int
    return isinstance(old, list | tuple) and isinstance(value, list | tuple | str)


def _nearest(key: str, keys: Sequence[str]) -> str:
    same_name = [k for k in keys if k.split(".")[-1] == key.split(".")[-1]]
    return (difflib.get_close_matches(key, keys, 1, 0.8) or same_name or difflib.get_close_matches(key, keys, 1, 0))[0]


def read_overrides(overrides: Sequence[Any]) -> Settings:
    """Read [key, value, key, value, ...]; ConfigError if a value is missing."""
    if len(overrides) % 2:
        raise ConfigError(f"overrides come in pairs of KEY VALUE; {overrides[-1]!r} is left over")
    settings = Settings()
    for key, value in zip(overrides[0::2], overrides[1::2], strict=True):
        settings.add(key, Setting(CfgNode._decode_cfg_value(value) if key == IMPORTS_KEY else value, "command line"))
    return settings


def get_cfg() -> CfgNode:
    """Return a config with detectron2's keys and this framework's, at their defaults."""
    cfg = _get_cfg()
    add_vdet_ssl_config(cfg)
    return CfgNode(cfg)


def load_cfg(config_file: str | os.PathLike = "", overrides: Sequence[Any] = ()) -> CfgNode:
    """Return the defaults overridden by a yaml file (and its _BASE_), then by [key, value, ...].

    Modules that either of them names in IMPORTS are imported first, and their keys added (`add_config(cfg)`).

    Raises:
        ConfigError: one line with file, line and key.
    """
    cfg = get_cfg()
    files = read_yaml(config_file) if config_file else Settings()
    cfg.merge_settings(files, read_overrides(overrides))
    return cfg
