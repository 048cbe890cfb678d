"""IMPORTS: modules outside `vdet_ssl` that register their classes and bring keys of their own."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from vdet_ssl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]  # of the repository: where projects/ lies


def import_module(name: str, where: str) -> ModuleType:
    """Import a module from Python's path, from the current folder, or from the repository's (projects.AVA).

    Args:
        name: as in an import statement.
        where: what names it, for the error's message.
    Raises:
        ConfigError: there is no such module.  What is raised inside the module passes as it is.
    """
    for folder in (os.getcwd(), str(ROOT)):
        if folder not in sys.path:
            sys.path.append(folder)
    if not all(name.split(".")):
        raise ConfigError(f"{where}: IMPORTS takes names as in an import statement (projects.AVA), not {name!r}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name is None or not f"{name}.".startswith(f"{e.name}."):
            raise  # a module that this one imports
        raise ConfigError(
            f"{where}: IMPORTS names {name}, but there is no module {e.name} on Python's path, in {os.getcwd()}, "
            f"or in {ROOT}"
        ) from None
