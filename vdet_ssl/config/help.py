"""The keys, for people: `tools/train_net.py --help-keys`, and docs/keys.md, which

    python -m vdet_ssl.config.help > docs/keys.md

writes.
"""

import functools
import textwrap
from itertools import groupby

from detectron2.config import get_cfg as get_detectron2_cfg

from vdet_ssl.config.config import CfgNode, get_cfg, nearest
from vdet_ssl.config.key import Key
from vdet_ssl.errors import ConfigError

_INTRODUCTION = """\
# Keys

<!-- Written by `python -m vdet_ssl.config.help > docs/keys.md`; not to be edited. -->

What a config file or a command line (`KEY VALUE`) can set, with the defaults. `tools/train_net.py --help-keys [PREFIX]`
prints the same. Sections, tables and equations are those of [arXiv 2104.14558](https://arxiv.org/abs/2104.14558).

The config has detectron2's other keys too, for projects that train detectron2's models. A key that nothing in a run reads
cannot be set: training refuses to start, and says where the key was set and what to set instead.
"""


def format_keys(prefix: str = "", cfg: CfgNode | None = None) -> str:
    """Return what there is to know about all keys whose names start so, for a terminal.

    Args:
        prefix: such as "SOLVER" or "model.b", in any case; "": the keys that this framework reads, without detectron2's others.
        cfg: a config with the keys of projects too; default: the framework's alone.
    Raises:
        ConfigError: no key starts so.
    """
    cfg, prefix = cfg or get_cfg(), prefix.upper()
    entries = [_entry(key, cfg.peek(name)) for name, key in cfg.record.keys.items() if name.upper().startswith(prefix)]
    if prefix:
        entries += [
            _plain_entry(name, cfg.peek(name))
            for name in cfg.key_names()
            if name.upper().startswith(prefix)
            and name not in cfg.record.keys
            and not isinstance(cfg.peek(name), CfgNode)
        ]
    if not entries:
        raise ConfigError(f"no key starts with {prefix}; the nearest one is {nearest(prefix, cfg.key_names())}")
    return "\n".join(entries)


def _entry(key: Key, value: object) -> str:
    text = "; ".join(filter(None, [key.help, key.allowed_text(), key.needs and f"needs {key.needs}"]))
    return f"{key.name} = {value!r}\n" + textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ")


def _plain_entry(name: str, value: object) -> str:
    """Describe a key that was added without a `Key`."""
    return f"{name} = {value!r}  ({'detectron2' if name in _detectron2_keys() else 'a project'}'s)"


@functools.cache
def _detectron2_keys() -> frozenset[str]:
    return frozenset(CfgNode(get_detectron2_cfg()).key_names())


def keys_page() -> str:
    """Return docs/keys.md: a table of keys for each group."""
    keys = sorted(get_cfg().record.keys.values(), key=_group)
    tables = [_table(group, list(members)) for group, members in groupby(keys, key=_group)]
    return "\n".join([_INTRODUCTION, *tables])


def _group(key: Key) -> str:
    """Return what stands before the last dot."""
    return key.name.rpartition(".")[0]


def _table(group: str, keys: list[Key]) -> str:
    rows = [f"| `{key.name}` | {_code(key.default)} | {_values(key)} | {_cell(key.help)} |" for key in keys]
    head = [f"## {group or 'The run'}", "", "| key | default | values | what it does |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _values(key: Key) -> str:
    needs = f"needs {key.needs}" if key.needs else ""
    return _cell("; ".join(filter(None, [key.allowed_text(), needs])))


def _code(value: object) -> str:
    return f"`{value!r}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    print(keys_page(), end="")
