"""Config files: yaml with a _BASE_, read into dotted keys that know the line that they stand on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from fvcore.common.config import BASE_KEY

from vdet_ssl.errors import ConfigError

IMPORTS_KEY = "IMPORTS"


@dataclass(frozen=True)
class Setting:
    """A value for a key, and where it was written: "file:line" or "command line"."""

    value: Any
    where: str


@dataclass
class Settings:
    """What a file or a command line sets.

    Attributes:
        keys: dotted key -> its Setting.
        imports: module of IMPORTS -> where it is named.
    """

    keys: dict[str, Setting] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, setting: Setting) -> None:
        """Set a key; the modules of IMPORTS are collected, whatever else names some."""
        if key != IMPORTS_KEY:
            self.keys[key] = setting
            return
        modules = [setting.value] if isinstance(setting.value, str) else setting.value
        if not isinstance(modules, list | tuple) or not all(isinstance(m, str) for m in modules):
            raise ConfigError(f"{setting.where}: {key} takes a list of modules' names, not {setting.value!r}")
        self.imports.update(dict.fromkeys(modules, setting.where))

    def update(self, other: "Settings") -> None:
        """Let another file's settings override these."""
        self.keys.update(other.keys)
        self.imports.update(other.imports)


def read_yaml(filename: str | os.PathLike, above: Sequence[str] = ()) -> Settings:
    """Read a yaml file and its _BASE_; of several, the later ones count.

    Args:
        filename: the file.
        above: real paths of the files whose _BASE_ it is.
    Raises:
        ConfigError: it does not exist, is not yaml, sets a key twice, or is its own _BASE_.
    """
    if not os.path.isfile(filename):
        raise ConfigError(f"{filename}: there is no such config file")
    if os.path.realpath(filename) in above:
        raise ConfigError(f"{filename}: it is its own {BASE_KEY}")
    own = _read_one(filename)
    bases = own.keys.pop(BASE_KEY, Setting([], "")).value
    settings = Settings()
    for base in [bases] if isinstance(bases, str) else bases:
        path = os.path.join(os.path.dirname(filename), os.path.expanduser(base))
        if not os.path.isfile(path):
            raise ConfigError(f"{filename}: its {BASE_KEY} {path} does not exist")
        settings.update(read_yaml(path, (*above, os.path.realpath(filename))))
    settings.update(own)
    return settings


def _read_one(filename: str | os.PathLike) -> Settings:
    settings = Settings()
    try:
        with open(filename, encoding="utf-8") as f:
            root = yaml.compose(f, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{filename}: expected KEY: value lines")
        if root is not None:
            _collect(root, "", filename, settings)
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"{filename}: not valid yaml: {e}") from None
    return settings


def _collect(node: yaml.MappingNode, prefix: str, filename: str | os.PathLike, settings: Settings) -> None:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(f"{filename}:{line}: {prefix}{key} is set twice; it was set at line {seen[key]} before")
        seen[key] = line
        if isinstance(value_node, yaml.MappingNode):
            _collect(value_node, f"{prefix}{key}.", filename, settings)
        else:
            value = yaml.SafeLoader("").construct_object(value_node, deep=True)
            settings.add(prefix + key, Setting(value, f"{filename}:{line}"))
