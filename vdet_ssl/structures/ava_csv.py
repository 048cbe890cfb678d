"""AVA's file formats: csv files of boxes and of excluded timestamps.

The data set and the evaluation both read them.  Imports neither torch nor detectron2: command line tools start fast.
"""

import contextlib
import csv
import gzip
import io
import logging
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from vdet_ssl.errors import AvaFormatError, DataError

logger = logging.getLogger(__name__)

FilePath = str | os.PathLike[str]
KeyFrameId = tuple[str, int]
"""What identifies a key frame, see `key_frame_id`."""

NO_ACTION = -1  # action id of a box without one (detected people)
SLACK = 0.05  # annotated and detected boxes may leave the frame by this fraction of it; they are clipped
_MAX_UNPACKED = 50  # times its size that a .gz file may unpack to; tables of boxes stay below 15
_UNPACKED_FREELY = 2**26  # bytes that any .gz file may unpack to
_MAX_LINE = 2**20  # characters
_MAX_TIMESTAMP_S = 1e10  # some centuries; beyond, microseconds would not fit into 64 bits
_ROWS_AT_ONCE = 2**20  # that are written
_COLUMNS = ["video_id", "timestamp", "x1", "y1", "x2", "y2", "action_id", "score"]
_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class BoxTable:
    """Boxes of key frames: one row for each box and action.

    Attributes:
        key_frames: (video id, timestamp as text) of each key frame, once, in order of first appearance; a file that
            writes one time in several ways ("0902", "902") may get the first of them everywhere.
        key: int64 (N,), index into `key_frames`.
        boxes: float64 (N, 4), XYXY, normalised to 0..1 by the frame's size.
        action_id: int64 (N,), `NO_ACTION` where there is none.
        score: float64 (N,), the eighth column: score of a detection, person's id of an annotation; 1 where there is none.
    """

    key_frames: list[tuple[str, str]]
    key: NDArray[np.int64]
    boxes: NDArray[np.float64]
    action_id: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.key)

    @cached_property
    def key_frame_ids(self) -> list[KeyFrameId]:
        """What identifies each of `key_frames`, see `key_frame_id`."""
        return [key_frame_id(*frame) for frame in self.key_frames]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "BoxTable":
        """Return the table of these rows (indices, mask or slice); it has the same key frames."""
        return BoxTable(self.key_frames, self.key[rows], self.boxes[rows], self.action_id[rows], self.score[rows])


def key_frame_id(video_id: str, timestamp: str | float) -> KeyFrameId:
    """Return what identifies a key frame: (video id, microseconds); timestamps "0902", "902.0" and 902 are the same.

    Raises:
        ValueError: the timestamp is not a number of seconds.
    """
    try:
        seconds = float(timestamp)
    except (TypeError, ValueError):
        seconds = math.nan
    if not abs(seconds) < _MAX_TIMESTAMP_S:
        raise ValueError(f"timestamp is not a number of seconds: {timestamp!r}")
    return video_id, round(seconds * 1e6)


def read_boxes(path: FilePath, score: str = "score") -> BoxTable:
    """Read boxes in AVA's csv format, plain or gzip: video_id,timestamp,x1,y1,x2,y2,action_id[,score or person_id].

    An empty action_id gives `NO_ACTION`.  A row of video_id,timestamp alone is a key frame without boxes.

    Args:
        score: what error messages call the eighth column.
    Raises:
        AvaFormatError: at the first row that does not follow the format.
        DataError: the file is not text, or not gzip.
    """
    try:
        table = _read_columns(path)
    except DataError:
        raise
    except (ValueError, OSError):
        return _read_lines(path, score)  # finds the wrong line, or reads a mixture that _read_columns does not know
    finite = np.isfinite(table.boxes).all() and np.isfinite(table.score).all()
    return table if finite else _read_lines(path, score)


def read_annotations(path: FilePath) -> BoxTable:
    """Read annotations, the eighth column of which is the person's id: 0, 1, ...

    Raises:
        AvaFormatError: as `read_boxes`; a person's id is not a whole number; a box leaves 0..1 by more than `SLACK`.
    """
    table = read_boxes(path, score="person_id")
    wrong = table.score % 1 != 0
    if wrong.any():
        row = int(wrong.argmax())
        reason = f"person_id is {table.score[row]:g}, not a whole number: are these detections, not the ground truth?"
        raise AvaFormatError(path, line_of_row(path, row), reason)
    refuse_far_boxes(path, table)
    return table


def refuse_far_boxes(path: FilePath, table: BoxTable) -> None:
    """Raise AvaFormatError at the first box of a file's table that leaves 0..1 by more than `SLACK`."""
    wrong = ((table.boxes < -SLACK) | (table.boxes > 1 + SLACK)).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        box = ", ".join(f"{x:g}" for x in table.boxes[row])
        reason = f"box x1, y1, x2, y2 = {box} is not within 0..1; divide pixels by the frame's width and height"
        raise AvaFormatError(path, line_of_row(path, row), reason)


def clip_boxes(boxes: NDArray[np.float64], source: object) -> NDArray[np.float64]:
    """Return boxes XYXY clipped to 0..1; the log says how many of `source` had to be."""
    outside = np.maximum(-boxes, boxes - 1)
    num_outside = int((outside > 0).any(axis=1).sum())
    if num_outside:
        logger.warning(
            f"{source}: {num_outside} of {len(boxes)} boxes leave 0..1, by up to {outside.max():.3g}: clipped"
        )
    return boxes.clip(0, 1) if num_outside else boxes


def line_of_row(path: FilePath, row: int) -> int:
    """Return the line, counted from 1, of the `row`-th row (from 0) of the table that `read_boxes(path)` returns."""
    with _open_text(path) as f:
        reader = csv.reader(f)
        rows = (reader.line_num for columns in reader if len(columns) > 2)
        return next(line for i, line in enumerate(rows) if i == row)


def write_boxes(path: FilePath, table: BoxTable) -> None:
    """Write detections in AVA's csv format, video_id,timestamp,x1,y1,x2,y2,action_id,score, with all digits."""
    write_parts(path, [table])


def write_parts(path: FilePath, tables: Iterable[BoxTable]) -> None:
    """Write tables as `write_boxes`, one after the other; no more than one of them is held in memory."""
    schema = pa.schema([(name, pa.string()) for name in _COLUMNS[:2]] + [(name, pa.float64()) for name in _COLUMNS[2:]])
    schema = schema.set(_COLUMNS.index("action_id"), pa.field("action_id", pa.int64()))
    with open(path, "wb") as f:
        for table in tables:
            with_quotes = any(re.search(r'[",\r\n]', text) for frame in table.key_frames for text in frame)
            options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed" if with_quotes else "none")
            with pyarrow.csv.CSVWriter(f, schema, write_options=options) as writer:
                for start in range(0, len(table), _ROWS_AT_ONCE):
                    writer.write_table(_arrow(table.take(slice(start, start + _ROWS_AT_ONCE)), schema))


def _arrow(table: BoxTable, schema: pa.Schema) -> pa.Table:
    """Return a table's rows with the names of their key frames; these have to stay below Arrow's 2 GiB of text."""
    video_ids, timestamps = zip(*table.key_frames, strict=True) if table.key_frames else ((), ())
    columns = [pa.array(texts, pa.string()).take(pa.array(table.key)) for texts in (video_ids, timestamps)]
    columns += [pa.array(x) for x in (*table.boxes.T, table.action_id, table.score)]
    return pa.table(columns, schema=schema)


def read_excluded(path: FilePath) -> set[KeyFrameId]:
    """Read excluded timestamps, rows of video_id,timestamp.

    Raises:
        AvaFormatError: at the first row that does not follow the format.
    """
    excluded = set()
    with _open_text(path) as f:
        reader = csv.reader(f)
        for row in filter(None, reader):
            try:
                video_id, timestamp = row
                excluded.add(key_frame_id(video_id.strip(), timestamp))
            except (TypeError, ValueError):
                reason = f"expected video_id,timestamp, got {','.join(row)!r}"
                raise AvaFormatError(path, reader.line_num, reason) from None
    return excluded


@contextlib.contextmanager
def _open_text(path: FilePath) -> Iterator[Iterator[str]]:
    with _open_binary(path) as f:
        yield _lines(path, io.TextIOWrapper(f, encoding="utf-8-sig", newline=""))


def _lines(path: FilePath, f: IO[str]) -> Iterator[str]:
    while line := f.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise DataError(f"{path} has a line of more than {_MAX_LINE} characters: it is not a csv of boxes")
        yield line


@contextlib.contextmanager
def _open_binary(path: FilePath) -> Iterator[Any]:
    with errors_named(path):
        if str(path).endswith(".gz"):
            with gzip.open(path, "rb") as unpacked, io.BufferedReader(_BoundedReader(path, unpacked)) as f:
                yield f
        else:
            with open(path, "rb") as f:
                yield f


class _BoundedReader(io.RawIOBase):
    """Reads what a .gz file unpacks to; DataError where that is too much for its size."""

    def __init__(self, path: FilePath, unpacked: gzip.GzipFile) -> None:
        self._path = path
        self._unpacked = unpacked
        self._num_bytes = 0
        self._limit = max(_UNPACKED_FREELY, _MAX_UNPACKED * os.path.getsize(path))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        num_bytes = self._unpacked.readinto(buffer)
        self._num_bytes += num_bytes
        if self._num_bytes > self._limit:
            raise DataError(
                f"{self._path} unpacks to more than {self._limit} bytes, {_MAX_UNPACKED} times its size, which no table "
                "of boxes does: if it is right, unpack it and name the csv"
            )
        return num_bytes


@contextlib.contextmanager
def errors_named(path: FilePath) -> Iterator[None]:
    """Name the file in what is raised by libraries when it is not text, not gzip, or not csv."""
    try:
        yield
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; a file has to be named here") from error


def _read_columns(path: FilePath) -> BoxTable:
    """Read a file of which all rows have the same seven or eight columns; ValueError where it is another one."""
    types = [_TEXT, _TEXT, *4 * [pa.float64()], pa.int64(), pa.float64()]
    with _open_binary(path) as f:
        table = pyarrow.csv.read_csv(
            f,
            pyarrow.csv.ReadOptions(autogenerate_column_names=True, block_size=2**23),  # few dictionaries to unify
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={f"f{i}": x for i, x in enumerate(types)}, null_values=[""]
            ),
        )
    names = _COLUMNS[: table.num_columns]
    table = table.rename_columns(names)
    if len(names) < 7:
        raise ValueError("not a table of boxes")
    keys = table.select(["video_id", "timestamp"]).unify_dictionaries().combine_chunks()
    key, key_frames = _key_frames(keys["video_id"].chunk(0), keys["timestamp"].chunk(0))
    boxes = np.empty((4, len(table)))
    for column, name in zip(boxes, _COLUMNS[2:6], strict=True):
        np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in table[name].chunks], out=column)
    score = table["score"].to_numpy() if "score" in names else np.ones(len(table))
    return BoxTable(key_frames, key, boxes.T, table["action_id"].fill_null(NO_ACTION).to_numpy(), score)


def _key_frames(video_ids: pa.DictionaryArray, timestamps: pa.DictionaryArray) -> tuple[NDArray, list[tuple[str, str]]]:
    """Return index (N,) and list of the key frames that two dictionary-encoded columns name."""
    texts = [text.strip() for text in timestamps.dictionary.to_pylist()]
    time, _ = pd.factorize(np.array([key_frame_id("", text)[1] for text in texts]))
    text_of_time = dict(zip(time[::-1], texts[::-1], strict=True))
    video, names = pd.factorize(np.array([name.strip() for name in video_ids.dictionary.to_pylist()], object))
    pair = video[video_ids.indices.to_numpy()] * len(texts) + time[timestamps.indices.to_numpy()]
    key, pairs = pd.factorize(pair)
    return key, [(names[pair // len(texts)], text_of_time[pair % len(texts)]) for pair in pairs.tolist()]


def _read_lines(path: FilePath, score: str) -> BoxTable:
    keys: dict[KeyFrameId, int] = {}
    key_frames: list[tuple[str, str]] = []
    key, rows = [], []
    with _open_text(path) as f:
        reader = csv.reader(f)
        for row in filter(None, reader):
            try:
                frame, values = _parse_row(row, score)
            except ValueError as error:
                raise AvaFormatError(path, reader.line_num, error) from None
            if frame not in keys:
                keys[frame] = len(keys)
                key_frames.append((row[0].strip(), row[1].strip()))
            if values:
                key.append(keys[frame])
                rows.append(values)
    boxes = np.array([values[:4] for values in rows], np.float64).reshape(-1, 4)
    action_id = np.array([values[4] for values in rows], np.int64)
    return BoxTable(key_frames, np.array(key, np.int64), boxes, action_id, np.array([v[5] for v in rows], np.float64))


def _parse_row(row: list[str], score: str) -> tuple[KeyFrameId, tuple[float, float, float, float, int, float] | None]:
    """Return (key_frame_id, None or (x1, y1, x2, y2, action id, score)); ValueError says what is wrong."""
    other = next((name for mark, name in {"\t": "tabs", ";": "semicolons"}.items() if mark in row[0]), "")
    if len(row) not in (2, 7, 8) and other:
        raise ValueError(f"its columns are separated by {other}; they have to be separated by commas")
    if len(row) not in (2, 7, 8):
        raise ValueError(f"expected 7 or 8 columns (or video_id,timestamp alone), got {len(row)}")
    frame = key_frame_id(row[0].strip(), _number("timestamp", row[1]))
    if len(row) == 2:
        return frame, None
    x1, y1, x2, y2 = (_number(name, text) for name, text in zip(_COLUMNS[2:6], row[2:6], strict=True))
    action_id = row[6].strip()
    if action_id and not re.fullmatch(r"[+-]?\d{1,18}", action_id):
        raise ValueError(f"action_id is not a whole number: {action_id!r}")
    value = _number(score, row[7]) if len(row) == 8 else 1.0
    return frame, (x1, y1, x2, y2, int(action_id) if action_id else NO_ACTION, value)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is not a number: {text!r}")
    return value
