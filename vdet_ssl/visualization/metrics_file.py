"""The figures of a run, as detectron2's JSONWriter writes them into metrics.json."""

import json
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdet_ssl.errors import DataError


class Series(NamedTuple):
    """One scalar over a run.

    Attributes:
        iterations: int64 (N,), ascending.
        values: float64 (N,).
    """

    iterations: NDArray[np.int64]
    values: NDArray[np.float64]


def read_metrics(path: str | PathLike[str]) -> dict[str, Series]:
    """Read all scalars of a metrics.json, one JSON object a line.

    A run that was stopped and resumed has some iterations twice; the later ones count.  What was half written,
    as in a run that is writing or was killed, is left out: at the end, or before what a resumed run has appended.

    Returns:
        name of the scalar, such as "total_loss" -> its Series.
    Raises:
        DataError: another line is not a JSON object with an "iteration".
        OSError: the file cannot be read.
    """
    by_name: dict[str, dict[int, float]] = {}
    lines = Path(path).read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line[max(line.rfind("{"), 0) :])
            iteration = entry.pop("iteration")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            if number == len(lines):
                break
            raise DataError(f"{path}:{number}: is not a line of detectron2's metrics: {line[:80]!r}") from error
        for name, value in entry.items():
            by_name.setdefault(name, {})[iteration] = value
    return {name: _series(values) for name, values in by_name.items()}


def _series(values: dict[int, float]) -> Series:
    iterations = sorted(values)
    return Series(np.array(iterations, np.int64), np.array([values[i] for i in iterations], np.float64))
