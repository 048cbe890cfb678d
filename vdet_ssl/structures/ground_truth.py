"""Ground truth of action detection: records of key frames, and the table of boxes that AVA's metric compares with.

A record is a dict with

- "video_id": str.
- "timestamp": str, in seconds, as results write it; "timestamp_s": the same as float.
- "file_name": str, the movie, or a folder of extracted frames <video_id>_000001.jpg, ...
- "start_s": float, the timestamp of its first frame.
- "frame_rate": float, of a folder of frames only: how many of them make a second.
- "boxes": float64 (N, 4), XYXY in 0..1.
- "classes": bool (N, number of classes), what each box does.
- "labels": of csv files only, int64 (L, 2): index of the box and class, for each row of the file in its order;
  "person_ids": float64 (L,), its eighth column.  The metric counts a label that the file has twice, and ties are
  decided by the order and the eighth column, as the official evaluator does.

Imports neither torch nor detectron2.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vdet_ssl.errors import DataError
from vdet_ssl.structures.ava_csv import NO_ACTION, SLACK, BoxTable, KeyFrameId, clip_boxes, key_frame_id

KeyFrameRecord = dict[str, Any]

_REQUIRED = ("video_id", "timestamp", "file_name", "boxes", "classes")

logger = logging.getLogger(__name__)


def check_records(records: Iterable[Mapping[str, Any]], num_classes: int, name: str) -> list[KeyFrameRecord]:
    """Return somebody's records of key frames in the one form that the module describes.

    Args:
        records: may have boxes as lists, a number as timestamp, and as "classes" for each box a list of class indices
            or `num_classes` times true or false (or 0 and 1, where there are more than two classes); "start_s" is 0
            where there is none.  Boxes that leave 0..1 by up to `SLACK` are clipped.  Other fields are kept.
        name: of the data set, for errors.
    Raises:
        DataError: names the data set, the record's index and its video id, and says what is wrong.
    """
    checked: list[KeyFrameRecord] = []
    index_of: dict[KeyFrameId, int] = {}
    for i, record in enumerate(records):
        try:
            checked.append(_check_record(record, num_classes))
            frame = key_frame_id(checked[-1]["video_id"], checked[-1]["timestamp"])
            if index_of.setdefault(frame, i) != i:
                raise ValueError(f"record {index_of[frame]} is of the same key frame; one record has all its boxes")
        except (TypeError, ValueError) as error:
            video_id = record.get("video_id") if isinstance(record, Mapping) else None
            raise DataError(f"{name}: record {i}, video_id {video_id!r}: {error}") from error
    boxes = clip_boxes(np.concatenate([np.zeros((0, 4)), *(record["boxes"] for record in checked)]), name)
    starts = np.cumsum([len(record["boxes"]) for record in checked])[:-1]
    return [{**record, "boxes": own} for record, own in zip(checked, np.split(boxes, starts), strict=True)]


def ground_truth_table(records: Iterable[KeyFrameRecord], action_ids: Sequence[int]) -> BoxTable:
    """Return the table of what records say, a row for each box and action.

    Args:
        records: as `check_records` or `records_of_table` return them.
        action_ids: of the classes.
    """
    key_frames, key, boxes, classes, person_ids = [], [], [], [], []
    for i, record in enumerate(records):
        key_frames.append((record["video_id"], record["timestamp"]))
        labels = record["labels"] if "labels" in record else np.argwhere(record["classes"])
        key.append(np.full(len(labels), i))
        boxes.append(record["boxes"][labels[:, 0]])
        classes.append(labels[:, 1])
        person_ids.append(record.get("person_ids", np.ones(len(labels))))  # 1: as a csv of seven columns
    return BoxTable(
        key_frames,
        np.concatenate([np.zeros(0, np.int64), *key]),
        np.concatenate([np.zeros((0, 4)), *boxes]),
        np.array(action_ids, np.int64)[np.concatenate([np.zeros(0, np.int64), *classes])],
        np.concatenate([np.zeros(0), *person_ids]),
    )


def records_of_table(table: BoxTable, action_ids: Sequence[int], source: str) -> list[KeyFrameRecord]:
    """Return a record for each of a table's key frames, in their order, without "file_name" and "start_s".

    Rows of one box are merged.  Rows whose action is not listed leave their box without it.

    Args:
        action_ids: of the classes.
        source: what the log calls the table.
    """
    table = table.take(np.argsort(table.key, kind="stable"))
    columns = pd.DataFrame(table.boxes, columns=["x1", "y1", "x2", "y2"]).assign(key=table.key)
    box = columns.groupby(list(columns.columns), sort=False).ngroup().to_numpy()
    first = np.flatnonzero(~pd.Series(box).duplicated())  # each box's first row
    class_index = pd.Index(list(action_ids)).get_indexer(pd.Index(table.action_id))
    listed = class_index >= 0
    _check_action_ids(table.action_id, listed, action_ids, source)
    classes = np.zeros((len(first), len(action_ids)), bool)
    classes[box[listed], class_index[listed]] = True
    labels, person_ids = np.column_stack([box, class_index])[listed], table.score[listed]

    keys = np.arange(len(table.key_frames) + 1)
    box_start, label_start = np.searchsorted(table.key[first], keys), np.searchsorted(table.key[listed], keys)
    labels[:, 0] -= box_start[table.key[listed]]
    records = []
    for i, (video_id, timestamp) in enumerate(table.key_frames):
        own, own_labels = slice(*box_start[i : i + 2]), slice(*label_start[i : i + 2])
        record = {"video_id": video_id, "timestamp": timestamp, "timestamp_s": float(timestamp)}
        record |= {"boxes": table.boxes[first[own]], "classes": classes[own]}
        records.append({**record, "labels": labels[own_labels], "person_ids": person_ids[own_labels]})
    return records


def _check_action_ids(
    action_id: NDArray[np.int64], listed: NDArray[np.bool_], action_ids: Sequence[int], source: str
) -> None:
    """Warn of rows whose action is not listed; DataError where all are like this, or ids look counted from 0."""
    others = np.unique(action_id[~listed])
    if not len(others):
        return
    some = ", ".join(map(str, others[:10])) + (", ..." if len(others) > 10 else "")
    ids = f"the label map has ids from {min(action_ids)} to {max(action_ids)}"
    if 0 in others:
        raise DataError(
            f"{source}: {(action_id == 0).sum()} rows have the action id 0, and {ids}: if the file counts from 0, all of "
            "its classes are shifted; count from 1 as the label map does, or give the label map an id 0"
        )
    if not listed.any() and (others != NO_ACTION).any():
        raise DataError(f"{source}: no row has an action of the label map: it has the ids {some}, {ids}")
    logger.warning(
        f"{source}: {(~listed).sum()} of {len(listed)} rows have actions that are not in the list ({some}): boxes are kept"
    )


def find_wrong_box(boxes: NDArray[np.float64]) -> tuple[int, str] | None:
    """Return index and description of the first box XYXY that leaves 0..1 by more than `SLACK` or, clipped, has no area.

    None: all are right."""
    inside = (boxes >= -SLACK).all(axis=1) & (boxes <= 1 + SLACK).all(axis=1)
    clipped = boxes.clip(0, 1)
    wrong = ~(inside & (clipped[:, 0] < clipped[:, 2]) & (clipped[:, 1] < clipped[:, 3]))
    if not wrong.any():
        return None
    index = int(wrong.argmax())
    box = ", ".join(f"{x:g}" for x in boxes[index])
    return index, f"box x1, y1, x2, y2 = {box} is not 0 <= x1 < x2 <= 1 (or y)"


def _check_record(record: Mapping[str, Any], num_classes: int) -> KeyFrameRecord:
    if not isinstance(record, Mapping):
        raise TypeError(f"it is a {type(record).__name__}; a record is a dict with {', '.join(_REQUIRED)}")
    missing = [field for field in _REQUIRED if field not in record]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}; a record of a key frame has {', '.join(_REQUIRED)}")
    if not isinstance(record["file_name"], str):
        raise TypeError(f"file_name is not a str: {record['file_name']!r}")
    timestamp = record["timestamp"]
    key_frame_id("", timestamp)
    boxes = _boxes(record["boxes"])
    checked = {
        **record,
        "video_id": str(record["video_id"]),
        "timestamp": timestamp if isinstance(timestamp, str) else f"{timestamp:.10g}",
        "timestamp_s": float(timestamp),
        "start_s": _number(record, "start_s", 0.0),
        "boxes": boxes,
        "classes": _classes(record["classes"], len(boxes), num_classes),
    }
    if "frame_rate" in record:
        checked["frame_rate"] = _number(record, "frame_rate")
        if checked["frame_rate"] <= 0:
            raise ValueError(f"frame_rate is {record['frame_rate']}; it has to be above 0")
    return checked


def _number(record: Mapping[str, Any], field: str, default: float = math.nan) -> float:
    value = record.get(field, default)
    if isinstance(value, str | bool) or not math.isfinite(value):
        raise ValueError(f"{field} is not a number: {value!r}")
    return float(value)


def _boxes(value: ArrayLike) -> NDArray[np.float64]:
    boxes = np.array(value, np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes have the shape {boxes.shape}; it has to be (N, 4): x1, y1, x2, y2 in 0..1")
    wrong = find_wrong_box(boxes)
    if wrong:
        raise ValueError(wrong[1])
    return boxes


def _classes(value: Sequence[Any], num_boxes: int, num_classes: int) -> NDArray[np.bool_]:
    if len(value) != num_boxes:
        raise ValueError(f"it has classes of {len(value)} boxes, but {num_boxes} boxes")
    if isinstance(value, np.ndarray) and value.dtype == bool and value.shape == (num_boxes, num_classes):
        return value
    rows = [_classes_of_box(np.asarray(own), num_classes) for own in value]
    return np.array(rows, bool).reshape(num_boxes, num_classes)


def _classes_of_box(own: NDArray, num_classes: int) -> NDArray[np.bool_]:
    """Return bool (num_classes,) from class indices, or from true and false (or 0 and 1) for every class."""
    if own.size == 0:
        return np.zeros(num_classes, bool)
    if own.ndim != 1 or own.dtype.kind not in "biuf":
        raise ValueError(f"classes of a box are a list of class indices, or true or false for each class, not {own!r}")
    all_0_or_1 = len(own) == num_classes and bool(np.isin(own, [0, 1]).all())
    if own.dtype.kind in "iu" and not (all_0_or_1 and num_classes > 2):
        return _from_indices(own, num_classes)
    if not all_0_or_1:
        raise ValueError(f"classes of a box are not {num_classes} times true or false: {own.tolist()}")
    return own.astype(bool)


def _from_indices(indices: NDArray, num_classes: int) -> NDArray[np.bool_]:
    if indices.min() < 0 or indices.max() >= num_classes:
        raise ValueError(f"class index {indices.tolist()} is out of range: they go from 0 to {num_classes - 1}")
    if len(np.unique(indices)) < len(indices):
        raise ValueError(f"class indices {indices.tolist()} name a class twice")
    return np.isin(np.arange(num_classes), indices)
