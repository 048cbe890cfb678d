"""What is known about a config beside its values: what its keys mean, who set them, and which of them were read."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vdet_ssl.config.key import Key, Value


@dataclass(frozen=True)
class Override:
    """A value that somebody set: `where` is "file:line" or "command line", `default` what it replaces."""

    value: Value
    where: str
    default: Value


@dataclass
class Record:
    """Shared by all nodes of a config; a copy of the config has its own, except that what is read in one counts in both.

    Attributes:
        keys: name -> Key, of those that were added with `add_keys`.
        overrides: name -> Override, of the keys that were merged from files and command lines.
        reads: names of the keys that were read.
    """

    keys: dict[str, Key] = field(default_factory=dict)
    overrides: dict[str, Override] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)
    is_paused: bool = False

    def read(self, name: str) -> None:
        if not self.is_paused:
            self.reads.add(name)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """In this context nothing counts as read."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before

    def override(self, name: str, override: Override) -> None:
        """Note a value; what it replaces is what the first one replaced."""
        default = self.overrides[name].default if name in self.overrides else override.default
        self.overrides[name] = Override(override.value, override.where, default)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Record":
        return Record(dict(self.keys), dict(self.overrides), self.reads)
