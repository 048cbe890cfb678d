"""AVA's file formats: csv files of boxes and of excluded timestamps, and the list of actions.

The data set and the evaluation both read them.  Imports neither torch nor detectron2: command line tools start fast.
"""

import contextlib
import csv
import gzip
import math
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from vdet_ssl.errors import AvaFormatError

NO_ACTION = -1  # action id of a box without one (detected people)
_MAX_TIMESTAMP_S = 1e10  # some centuries; beyond, microseconds would not fit into 64 bits
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

    key_frames: list
    key: np.ndarray
    boxes: np.ndarray
    action_id: np.ndarray
    score: np.ndarray

    def __len__(self):
        return len(self.key)

    @cached_property
    def key_frame_ids(self):
        """What identifies each of `key_frames`, see `key_frame_id`."""
        return [key_frame_id(*frame) for frame in self.key_frames]

    def take(self, rows):
        """Return the table of these rows (indices, mask or slice); it has the same key frames."""
        return BoxTable(self.key_frames, self.key[rows], self.boxes[rows], self.action_id[rows], self.score[rows])


def key_frame_id(video_id, timestamp):
    """Return what identifies a key frame: (video id, microseconds); timestamps "0902" and "902.0" are the same."""
    seconds = float(timestamp)
    if not abs(seconds) < _MAX_TIMESTAMP_S:
        raise ValueError(f"timestamp is no number of seconds: {timestamp!r}")
    return video_id, round(seconds * 1e6)


def read_boxes(path, score="score"):
    """Read boxes in AVA's csv format, plain or gzip: video_id,timestamp,x1,y1,x2,y2,action_id[,score or person_id].

    An empty action_id gives `NO_ACTION`.  A row of video_id,timestamp alone is a key frame without boxes.

    Args:
        score: what error messages call the eighth column.
    Raises:
        AvaFormatError: at the first row that does not follow the format.
    """
    try:
        table = _read_columns(path)
    except (ValueError, OSError):
        return _read_lines(path, score)  # finds the wrong line, or reads a mixture that _read_columns does not know
    finite = np.isfinite(table.boxes).all() and np.isfinite(table.score).all()
    return table if finite else _read_lines(path, score)


def line_of_row(path, row):
    """Return the line, counted from 1, of the `row`-th row (from 0) of the table that `read_boxes(path)` returns."""
    with _open_text(path) as f:
        reader = csv.reader(f)
        rows = (reader.line_num for columns in reader if len(columns) > 2)
        return next(line for i, line in enumerate(rows) if i == row)


def write_boxes(path, table):
    """Write detections in AVA's csv format, video_id,timestamp,x1,y1,x2,y2,action_id,score, with all digits."""
    video_ids, timestamps = zip(*table.key_frames, strict=True) if table.key_frames else ((), ())
    columns = [pa.array(texts, pa.string()).take(pa.array(table.key)) for texts in (video_ids, timestamps)]
    columns += [pa.array(x) for x in (*table.boxes.T, table.action_id, table.score)]
    with_quotes = any(re.search(r'[",\r\n]', text) for text in (*video_ids, *timestamps))
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed" if with_quotes else "none")
    pyarrow.csv.write_csv(pa.table(columns, names=_COLUMNS), path, options)


def read_excluded(path):
    """Read excluded timestamps, rows of video_id,timestamp, as a set of `key_frame_id`."""
    excluded = set()
    with _open_text(path) as f:
        reader = csv.reader(f)
        for row in filter(None, reader):
            try:
                excluded.add(key_frame_id(*row))
            except (TypeError, ValueError):
                reason = f"expected video_id,timestamp, got {','.join(row)!r}"
                raise AvaFormatError(path, reader.line_num, reason) from None
    return excluded


def read_label_map(path):
    """Read an action list (pbtxt with blocks of name and id or label_id) as a dict id -> name in the file's order."""
    with _errors_named(path):
        text = Path(path).read_text(encoding="utf-8")
    names = {}
    for block in re.finditer(r"\{([^{}]*)\}", text):
        line = text.count("\n", 0, block.start()) + 1
        name = re.search(r'\bname\s*:\s*"((?:[^"\\]|\\.)*)"', block[1])
        action_id = re.search(r"\b(?:label_)?id\s*:\s*(\d+)", block[1])
        if name is None or action_id is None:
            raise AvaFormatError(path, line, 'a class needs name: "..." and id: N (or label_id: N)')
        name, action_id = re.sub(r"\\(.)", r"\1", name[1]), int(action_id[1])
        if action_id in names or name in names.values():
            raise AvaFormatError(path, line, f"class {action_id} {name!r} has the id or the name of an earlier class")
        names[action_id] = name
    if not names:
        raise AvaFormatError(path, 1, 'no class found; expected blocks like item { name: "walk" id: 14 }')
    return names


@contextlib.contextmanager
def _open_text(path):
    opener = gzip.open if str(path).endswith(".gz") else open
    with _errors_named(path), opener(path, "rt", encoding="utf-8", newline="") as f:
        yield f


@contextlib.contextmanager
def _errors_named(path):
    """Name the file in what is raised by libraries when it is no text, no gzip, or no csv."""
    try:
        yield
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read_columns(path):
    with _open_text(path) as f:
        names = _COLUMNS[: len(next(csv.reader(f), []))]
    types = dict.fromkeys(names, pa.float64()) | {"video_id": _TEXT, "timestamp": _TEXT, "action_id": pa.int64()}
    table = pyarrow.csv.read_csv(
        path,
        pyarrow.csv.ReadOptions(column_names=names, block_size=2**23),  # few blocks, few dictionaries to unify
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[""]),
    )
    if len(names) < 7:
        raise ValueError("not a table of boxes")
    keys = table.select(["video_id", "timestamp"]).unify_dictionaries().combine_chunks()
    key, key_frames = _key_frames(keys["video_id"].chunk(0), keys["timestamp"].chunk(0))
    boxes = np.empty((4, len(table)))
    for column, name in zip(boxes, _COLUMNS[2:6], strict=True):
        np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in table[name].chunks], out=column)
    score = table["score"].to_numpy() if "score" in names else np.ones(len(table))
    return BoxTable(key_frames, key, boxes.T, table["action_id"].fill_null(NO_ACTION).to_numpy(), score)


def _key_frames(video_ids, timestamps):
    """Return index (N,) and list of the key frames that two dictionary-encoded columns name."""
    texts = timestamps.dictionary.to_pylist()
    time, _ = pd.factorize(np.array([key_frame_id("", text)[1] for text in texts]))
    text_of_time = dict(zip(time[::-1], texts[::-1], strict=True))
    pair = video_ids.indices.to_numpy().astype(np.int64) * len(texts) + time[timestamps.indices.to_numpy()]
    key, pairs = pd.factorize(pair)
    names = video_ids.dictionary.to_pylist()
    return key, [(names[pair // len(texts)], text_of_time[pair % len(texts)]) for pair in pairs.tolist()]


def _read_lines(path, score):
    keys, key_frames, key, values, action_id = {}, [], [], [], []
    with _open_text(path) as f:
        reader = csv.reader(f)
        for row in filter(None, reader):
            try:
                frame, box = _parse_row(row, score)
            except ValueError as error:
                raise AvaFormatError(path, reader.line_num, error) from None
            if frame not in keys:
                keys[frame] = len(keys)
                key_frames.append(tuple(row[:2]))
            if box:
                key.append(keys[frame])
                values.append(box[:5])
                action_id.append(box[5])
    values = np.array(values, np.float64).reshape(-1, 5)
    return BoxTable(
        key_frames, np.array(key, np.int64), values[:, :4], np.array(action_id, np.int64), values[:, 4].copy()
    )


def _parse_row(row, score):
    """Return (key_frame_id, None or [x1, y1, x2, y2, score, action id]); ValueError says what is wrong."""
    if len(row) not in (2, 7, 8):
        raise ValueError(f"expected 7 or 8 columns (or video_id,timestamp alone), got {len(row)}")
    frame = key_frame_id(row[0], _number("timestamp", row[1]))
    if len(row) == 2:
        return frame, None
    box = [_number(name, text) for name, text in zip(_COLUMNS[2:6], row[2:6], strict=True)]
    action_id = row[6].strip()
    if action_id and not re.fullmatch(r"[+-]?\d{1,18}", action_id):
        raise ValueError(f"action_id is not a whole number: {action_id!r}")
    box.append(_number(score, row[7]) if len(row) == 8 else 1.0)
    return frame, [*box, int(action_id) if action_id else NO_ACTION]


def _number(name, text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is not a number: {text!r}")
    return value
