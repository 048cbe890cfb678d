"""What is known about one key: its default, its meaning and its legal values, in one place."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vdet_ssl.errors import ConfigError

Value = bool | int | float | str | Sequence | None


@dataclass(frozen=True)
class Range:
    """The numbers that a key, or each element of it, may be; infinity only where `at_most` is infinite."""

    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None

    def __contains__(self, x: object) -> bool:
        return (
            isinstance(x, int | float)
            and (math.isfinite(x) or x == self.at_most)
            and (self.at_least is None or x >= self.at_least)
            and (self.more_than is None or x > self.more_than)
            and (self.at_most is None or x <= self.at_most)
            and (self.less_than is None or x < self.less_than)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}"
        limits = {
            "at least": self.at_least,
            "more than": self.more_than,
            "at most": self.at_most,
            "less than": self.less_than,
        }
        return " and ".join(f"{words} {limit:g}" for words, limit in limits.items() if limit is not None)


FRACTION = Range(at_least=0, at_most=1)
POSITIVE = Range(more_than=0)
NOT_NEGATIVE = Range(at_least=0)
COUNT = Range(at_least=1)


@dataclass(frozen=True)
class Key:
    """A key of the config.

    Attributes:
        name: dotted.
        default: its value where nobody sets it; its type is the type of all its values.
        help: what it does, with unit and the paper's symbol, section or table (arXiv 2104.14558).
        allowed: a Range of numbers, or all values there are, of each element where it has several; None: any of the
            default's type that is finite.
        length: number of elements; None: any.
        ascending: whether a smaller element comes first.
        needs: "KEY VALUE" without which nothing reads it, for the message that says so.
    """

    name: str
    default: Value
    help: str
    allowed: Range | tuple[Value, ...] | None = None
    length: int | None = None
    ascending: bool = False
    needs: str = ""

    def check(self, value: Value) -> None:
        """Raise ConfigError if nobody can mean this value."""
        wrong = self._problem(value)
        if wrong:
            raise ConfigError(f"{self.name} is {value!r}; {wrong}")

    def _problem(self, value: Value) -> str:
        elements: list = list(value) if isinstance(value, list | tuple) else [value]
        if value is None and self.default is None:
            return ""
        if self.allowed is not None and not all(x in self.allowed for x in elements):
            return f"it has to be {'one of ' if isinstance(self.allowed, tuple) else ''}{self.allowed_text()}"
        if self.allowed is None and not all(math.isfinite(x) for x in elements if isinstance(x, float)):
            return "it has to be finite"
        if self.length not in (None, len(elements)):
            return f"it takes {self.length} values"
        if self.ascending and elements != sorted(elements):
            return "the smaller value comes first"
        return ""

    def allowed_text(self) -> str:
        """Say which values are legal, in words; "" where all of the default's type are."""
        if isinstance(self.allowed, tuple):
            return ", ".join(map(repr, self.allowed))
        return str(self.allowed or "")
