"""What files and command lines set, and where: "file:line" or "command line"."""

import os
from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from fvcore.common.config import BASE_KEY

from vdet_ssl.config.yaml_files import compose, construct
from vdet_ssl.errors import ConfigError

IMPORTS = "IMPORTS"
COMMAND_LINE = "command line"
EPOCHS = {  # what may be given in epochs instead, and where
    "SOLVER.MAX_ITER": "SOLVER.MAX_EPOCHS",
    "SOLVER.WARMUP_ITERS": "SOLVER.WARMUP_EPOCHS",
    "SOLVER.STEPS": "SOLVER.STEP_EPOCHS",
    "SOLVER.CHECKPOINT_PERIOD": "SOLVER.CHECKPOINT_EPOCHS",
    "TEST.EVAL_PERIOD": "SOLVER.EVAL_EPOCHS",
}


@dataclass(frozen=True)
class Setting:
    """A value for a key, and where it was written."""

    value: Any
    where: str


@dataclass
class Settings:
    """What one file or one command line sets.

    Attributes:
        keys: dotted key -> its Setting.
        imports: module of IMPORTS -> where it is named.
    """

    keys: dict[str, Setting] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, setting: Setting) -> None:
        if key == IMPORTS:
            self.imports.update(dict.fromkeys(_module_names(setting), setting.where))
        else:
            self.keys[key] = setting


def _module_names(setting: Setting) -> list[str]:
    value = _literal(setting.value)
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{setting.where}: {IMPORTS} takes a list of modules' names, not {value!r}")
    if isinstance(value, str) and "," in value:
        several = [name.strip() for name in value.strip("[]()").split(",")]
        raise ConfigError(f'{setting.where}: {IMPORTS} takes several modules as a list, "{several}"')
    return list(names)


def read_overrides(overrides: Sequence[Any]) -> Settings:
    """Read [key, value, key, value, ...] of a command line.

    Raises:
        ConfigError: a value is missing, or the same length is given both in iterations and in epochs.
    """
    if len(overrides) % 2:
        raise ConfigError(f"overrides come in pairs of KEY VALUE; {overrides[-1]!r} is left over")
    settings = Settings()
    for key, value in zip(overrides[0::2], overrides[1::2], strict=True):
        settings.add(key, Setting(value, COMMAND_LINE))
    for iterations, epochs in EPOCHS.items():
        if {iterations, epochs} <= settings.keys.keys() and _literal(settings.keys[epochs].value) not in (0, (), []):
            raise ConfigError(f"{COMMAND_LINE}: {iterations} and {epochs} say the same thing; give one of them")
    return settings


def _literal(value: Any) -> Any:
    """Return the list, number, ... that a string writes; a string that writes none, and what is not a string, as it is."""
    try:
        return literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value


def read_yaml(filename: str | os.PathLike, above: Sequence[str] = ()) -> list[Settings]:
    """Read a yaml file and its _BASE_: the settings of each file, those that override others after them.

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
    settings = []
    for base in [bases] if isinstance(bases, str) else bases:
        path = os.path.join(os.path.dirname(filename), os.path.expanduser(base))
        if not os.path.isfile(path):
            raise ConfigError(f"{filename}: its {BASE_KEY} {path} does not exist")
        settings += read_yaml(path, (*above, os.path.realpath(filename)))
    return [*settings, own]


def _read_one(filename: str | os.PathLike) -> Settings:
    settings = Settings()
    root = compose(filename)
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{filename}: expected KEY: value lines")
    if root is not None:
        _collect(root, "", filename, settings)
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
            try:
                value = construct(value_node)
            except (yaml.YAMLError, ValueError) as e:
                raise ConfigError(f"{filename}: not valid yaml: {' '.join(str(e).split())}") from None
            settings.add(prefix + key, Setting(value, f"{filename}:{line}"))
