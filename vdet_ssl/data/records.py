"""What data sets, mappers and loaders pass on to each other."""

import math
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any, Protocol

import numpy as np

from vdet_ssl.errors import DataError

Record = dict[str, Any]
"""What a data set says of one video ("videos") or of one key frame ("key_frames"), nothing decoded yet."""

Mapper = Callable[[Record, np.random.Generator], dict[str, Any]]
"""Makes a sample of a record; everything random comes from the generator."""


class Records(Protocol):
    """The records of a data set, made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


def check_video_records(records: Iterable[Any], name: str) -> None:
    """Raise DataError at the first of somebody's records of videos that is wrong.

    Args:
        records: each a dict with "file_name": str and, if wanted, "label": int, "duration_s": seconds, None or 0 where it
            is not known.
        name: of the data set, for errors.
    """
    for i, record in enumerate(records):
        problem = _problem(record)
        if problem:
            raise DataError(f"{name}: record {i}: {problem}")


def _problem(record: Any) -> str:
    """Say what is wrong with the record of a video; "" if nothing is."""
    if not isinstance(record, dict):
        return f'it is a {type(record).__name__}; a record of a video is a dict with "file_name"'
    if not isinstance(record.get("file_name"), str):
        return f"file_name is not a str: {record.get('file_name')!r}"
    label, duration_s = record.get("label", 0), record.get("duration_s") or 0
    if not isinstance(label, Integral):
        return f"label is not an integer: {label!r}"
    if not (isinstance(duration_s, int | float | np.number) and 0 <= duration_s < math.inf):
        return f"duration_s is not a number of seconds: {duration_s!r}"
    return ""
