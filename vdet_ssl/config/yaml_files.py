"""Yaml files that anybody may have written: nothing of them is run, and what they stand for is bounded."""

import os

import yaml

from vdet_ssl.errors import ConfigError, UserError

MAX_VALUES = 100_000  # that a file stands for, each alias counted as all that it repeats


def compose(path: str | os.PathLike[str], error: type[UserError] = ConfigError) -> yaml.Node | None:
    """Read a yaml file as a node, None if it is empty.

    Raises:
        UserError: of the type `error`: it is not yaml, or stands for more than `MAX_VALUES` values.
    """
    try:
        with open(path, encoding="utf-8-sig") as f:
            root = yaml.compose(f, Loader=yaml.SafeLoader)
        num_values = _count(root, {})
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise error(f"{path}: not valid yaml: {' '.join(str(e).split())}") from None
    except RecursionError:
        raise error(f"{path}: its values are nested too deeply, or contain themselves") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder; a yaml file has to be named here") from None
    if num_values > MAX_VALUES:
        raise error(f"{path}: with its aliases it stands for more than {MAX_VALUES} values; write them out")
    return root


def _count(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Return how many values a node stands for; RecursionError where it contains itself."""
    if isinstance(node, yaml.CollectionNode) and id(node) not in known:
        pairs = isinstance(node, yaml.MappingNode)
        children = [child for pair in node.value for child in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known.get(id(node), 1)


def construct(node: yaml.Node) -> object:
    """Return the value that a node stands for."""
    return yaml.SafeLoader("").construct_object(node, deep=True)
