"""detectron2's CfgNode, strict: unknown and duplicate keys are refused, with file, line and the nearest key there is."""

import difflib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode as _CfgNode
from detectron2.config import get_cfg as _get_cfg
from yacs.config import CfgNode as _YacsNode

from vdet_ssl.config.imports import import_module
from vdet_ssl.config.key import Key
from vdet_ssl.config.keys import KEYS
from vdet_ssl.config.record import Override, Record
from vdet_ssl.config.settings import EPOCHS, IMPORTS, Setting, Settings, read_overrides, read_yaml
from vdet_ssl.errors import ConfigError


def _unrecorded(name: str) -> Callable:
    """Return detectron2's method of this name; the keys that it looks at do not count as read."""
    method = getattr(_CfgNode, name)

    @functools.wraps(method)
    def wrapped(self: "CfgNode", *args: Any, **kwargs: Any) -> Any:
        with self.record.paused():
            return method(self, *args, **kwargs)

    return wrapped


class CfgNode(_CfgNode):
    """detectron2's CfgNode with strict `merge_from_file` and `merge_from_list`; both raise ConfigError.

    Beside a value of the key's own type they take a whole number for a float, a list for a tuple (and back), and one
    string for a list of strings.  The modules of IMPORTS are imported before anything is merged.

    A config remembers which of its keys were read, one by one or by `items`, `values` or `**`, but not as part of
    printing, dumping, copying, freezing and merging.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _bind(self, Record(), "")

    @property
    def record(self) -> Record:
        """What is known about the whole config: see `Record`."""
        return self.__dict__.get("__record__") or Record()  # none yet while it is being copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _bind(self, self.record, self._path)  # what a pickle has set as items before

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a key; a node of detectron2's class, as its projects add them, becomes one of this class."""
        if isinstance(value, _YacsNode):
            _bind(value, self.record, f"{self._path}{name}.")
        super().__setitem__(name, value)

    def __getitem__(self, name: str) -> Any:
        self._read(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read(name)
        return super().get(name, default)

    def items(self) -> Any:
        self._read(*self)
        return super().items()

    def values(self) -> Any:
        self._read(*self)
        return super().values()

    def __iter__(self) -> Iterator[str]:
        """As a dict's; because it is overridden, `dict(node)` and `**node` ask `__getitem__` for each key."""
        return super().__iter__()

    __str__ = _unrecorded("__str__")
    __reduce_ex__ = _unrecorded("__reduce_ex__")
    dump = _unrecorded("dump")
    merge_from_other_cfg = _unrecorded("merge_from_other_cfg")
    set_new_allowed = _unrecorded("set_new_allowed")
    _immutable = _unrecorded("_immutable")  # freezes and defrosts

    def merge_from_file(self, cfg_filename: str | os.PathLike, allow_unsafe: bool = False) -> None:
        self.merge_settings(read_yaml(cfg_filename))

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Merge [key, value, key, value, ...] as it stands on a command line."""
        self.merge_settings([read_overrides(cfg_list)])

    def merge_settings(self, all_settings: Sequence[Settings]) -> None:
        """Import the modules that any of the settings name, then merge these, the later ones over the earlier ones.

        What is set in iterations overrides epochs of earlier settings.
        """
        for settings in all_settings:
            self._import(settings.imports)
        for settings in all_settings:
            for key, setting in settings.keys.items():
                self._merge(key, setting)
            for iterations in EPOCHS.keys() & settings.keys.keys():
                if EPOCHS[iterations] not in settings.keys and EPOCHS[iterations] in self.record.keys:
                    self._forget(EPOCHS[iterations])

    def peek(self, key: str) -> Any:
        """Return the value of a dotted key, which does not count as reading it; KeyError if there is none."""
        with self.record.paused():
            return functools.reduce(lambda node, name: node[name], key.split("."), self)

    def put(self, key: str, value: Any) -> None:
        """Set the value of a dotted key."""
        path, _, name = key.rpartition(".")
        setattr(self.peek(path) if path else self, name, value)

    def key_names(self) -> list[str]:
        """Return the dotted names of all keys, nodes included."""
        names = []
        for name in self:
            names.append(name)
            value = self.peek(name)
            if isinstance(value, CfgNode):
                names += [f"{name}.{below}" for below in value.key_names()]
        return names

    @property
    def _path(self) -> str:
        """The dotted name of this node and a dot; "" for the whole config."""
        return self.__dict__.get("__path__", "")

    def _read(self, *names: str) -> None:
        for name in names:
            self.record.read(self._path + name)

    def _import(self, modules: dict[str, str]) -> None:
        """Import modules (name -> where it is named) and let them add their keys, each once."""
        for name, where in modules.items():
            if IMPORTS not in self:
                raise ConfigError(f"{where}: there is no key {IMPORTS} in this config")
            if name in self.peek(IMPORTS):
                continue
            if self.is_frozen():
                raise ConfigError(f"{where}: {IMPORTS} cannot be set any more, the config is frozen")
            module = import_module(name, where)
            if hasattr(module, "add_config"):
                with self.record.paused():
                    module.add_config(self)
            self[IMPORTS] = [*self.peek(IMPORTS), name]

    def _merge(self, key: str, setting: Setting) -> None:
        where = setting.where
        try:
            old = self.peek(key)
        except (KeyError, TypeError):  # the latter of what stands below a value
            raise ConfigError(
                f"{where}: there is no key {key}; the nearest one is {nearest(key, self.key_names())}"
            ) from None
        if self.is_frozen():
            raise ConfigError(f"{where}: {key} cannot be set any more, the config is frozen")
        value = self._decode_cfg_value(setting.value)
        if isinstance(old, CfgNode) or not _fits(value, old):
            kind = "a group of keys" if isinstance(old, CfgNode) else f"a {type(old).__name__}, as in {old!r}"
            raise ConfigError(f"{where}: {key} takes {kind}, not {value!r}")
        if isinstance(old, list | tuple) and isinstance(value, str):
            value = [value]
        value = value if old is None or value is None else type(old)(value)
        self.record.override(key, Override(value, where, old))
        self.put(key, value)

    def _forget(self, key: str) -> None:
        """Set a number to 0, a sequence to an empty one, as if nobody had set it."""
        self.record.overrides.pop(key, None)
        self.put(key, type(self.peek(key))())


def _bind(node: _YacsNode, record: Record, path: str) -> None:
    """Make a node and all below it strict and part of a config, in place: who made it may still be adding keys to it."""
    if not isinstance(node, CfgNode):
        object.__setattr__(node, "__class__", CfgNode)
    node.__dict__.update(__record__=record, __path__=path)
    for name, value in dict.items(node):
        if isinstance(value, _YacsNode):
            _bind(value, record, f"{path}{name}.")


def _fits(value: Any, old: Any) -> bool:
    if old is None or value is None or type(value) is type(old):
        return True
    if isinstance(old, float):
        return type(value) is int
    return isinstance(old, list | tuple) and isinstance(value, list | tuple | str)


def nearest(key: str, keys: Sequence[str]) -> str:
    """Return the one of `keys` that `key` was most likely meant to be."""
    same_name = [k for k in keys if k.split(".")[-1] == key.split(".")[-1]]
    return (difflib.get_close_matches(key, keys, 1, 0.8) or same_name or difflib.get_close_matches(key, keys, 1, 0))[0]


def add_keys(cfg: CfgNode, keys: Iterable[Key]) -> None:
    """Add keys to a config at their defaults, in place, with the groups that they need.

    Their values are checked as all others are, and `tools/train_net.py --help-keys` names them.
    """
    for key in keys:
        *path, name = key.name.split(".")
        node = cfg
        for below in path:
            if below not in node:
                node[below] = CfgNode()
            node = dict.__getitem__(node, below)
        node[name] = key.default
        cfg.record.keys[key.name] = key


def get_cfg() -> CfgNode:
    """Return a config with detectron2's keys and this framework's, at their defaults."""
    cfg = CfgNode(_get_cfg())
    add_keys(cfg, KEYS)
    return cfg


def load_cfg(config_file: str | os.PathLike = "", overrides: Sequence[Any] = ()) -> CfgNode:
    """Return the defaults overridden by a yaml file (and its _BASE_), then by [key, value, ...].

    Modules that either of them names in IMPORTS are imported first, and their keys added (`add_config(cfg)`).

    Raises:
        ConfigError: one line with file, line and key.
    """
    cfg = get_cfg()
    files = read_yaml(config_file) if config_file else []
    cfg.merge_settings([*files, read_overrides(overrides)])
    return cfg
