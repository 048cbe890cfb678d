"""AVA's metric: mean average precision at IoU 0.5 (PASCAL VOC), equal to the official evaluator's to the last digit.

Pure functions on arrays; imports neither torch nor detectron2.  What the official evaluator does not define in words,
the order among equal scores and which of them its `capacity` keeps, follows from the heap that its reader keeps for
each key frame.  Key frames where that can matter are few: for those alone the heap is replayed (`_heaps`).
"""

import heapq
import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from vdet_ssl.errors import AvaFormatError, DataError
from vdet_ssl.structures.ava_csv import (
    BoxTable,
    FilePath,
    KeyFrameId,
    line_of_row,
    read_boxes,
    read_excluded,
    read_label_map,
)

IOU_THRESHOLD = 0.5
OFFICIAL_CAPACITY = 50
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AVAResult:
    """Average precision of each class, and their mean.

    Attributes:
        ap: class name -> average precision in 0..1, None for a class without ground truth.
        mean_ap: mean over the classes that have ground truth.
        capacity: (box, class) detections kept of a key frame, None for all of them.
    """

    ap: dict[str, float | None]
    mean_ap: float
    capacity: int | None

    def as_dict(self) -> dict[str, Any]:
        return {"mAP": self.mean_ap, "capacity": self.capacity, "AP": self.ap}

    def describe(self) -> str:
        """Say which detections the figure counts."""
        if self.capacity is None:
            return "all detections of a key frame count, as in PySlowFast"
        kept = f"the {self.capacity} (box, class) detections of highest score in a key frame count"
        return kept + (", as in the official evaluator" if self.capacity == OFFICIAL_CAPACITY else "")

    def table(self) -> str:
        """Format the figures for people to read."""
        rows = [(name, "no ground truth" if ap is None else f"{ap:.4f}") for name, ap in self.ap.items()]
        return tabulate([*rows, ("mAP", f"{self.mean_ap:.4f}")], ["class", "AP at IoU 0.5"], disable_numparse=True)


def evaluate_files(
    ground_truth: FilePath,
    detections: FilePath,
    label_map: FilePath,
    capacity: int | None = None,
    excluded: FilePath | None = None,
) -> AVAResult:
    """Evaluate csv files; arguments as in `evaluate`, each the path of a file.

    Raises:
        DataError: a file does not follow its format, or the two are not about the same data.
    """
    excluded_ids = read_excluded(excluded) if excluded else frozenset()
    truth = read_boxes(ground_truth, score="person_id")
    wrong = truth.score % 1 != 0
    if wrong.any():
        row = int(wrong.argmax())
        reason = f"person_id is {truth.score[row]:g}, not a whole number: are these detections, not the ground truth?"
        raise AvaFormatError(ground_truth, line_of_row(ground_truth, row), reason)
    return evaluate(truth, read_boxes(detections), read_label_map(label_map), capacity, excluded_ids)


def evaluate(
    ground_truth: BoxTable,
    detections: BoxTable,
    class_names: Mapping[int, str],
    capacity: int | None = None,
    excluded: AbstractSet[KeyFrameId] = frozenset(),
) -> AVAResult:
    """Compute AVA's mAP.

    A detection is matched with the ground-truth box of its class that it overlaps most; it is a true positive if that
    overlap is at least 0.5 and no detection of higher score has the box already.  Left out are detections without area
    and those in key frames that `ground_truth` does not name (the official evaluator leaves them out since AVA v2.2).

    Args:
        ground_truth, detections: actions that are not in `class_names` are left out first.
        class_names: action id -> name.
        capacity: (box, class) detections kept of a key frame, those of highest score; None or 0 keeps all.
        excluded: key frames to leave out.
    Raises:
        DataError: the two cannot be about the same data, where the figure would be a meaningless zero; or the
            detections name a key frame twice.
    """
    capacity = capacity or None
    if len(set(detections.key_frame_ids)) < len(detections.key_frames):
        raise DataError("The detections name a key frame twice, with timestamps that are written differently.")
    number = {frame: i for i, frame in enumerate(ground_truth.key_frame_ids) if frame not in excluded}
    truth = _select(ground_truth, number, class_names)
    found = _select(detections, number, class_names)

    has_truth = np.isin(found.group, truth.group)
    order = _official_order(found, has_truth, capacity)
    order = order[_has_area(detections.boxes)[found.row[order]]]
    _check_same_data(ground_truth, len(truth.row), detections, len(order))
    candidates = order[has_truth[order]]
    true_positive = np.zeros(len(found.row), bool)
    true_positive[candidates] = _match(found, candidates, truth)

    ap = {}
    class_index = found.class_index[order].astype(np.uint16)
    for i, name in enumerate(class_names.values()):
        own = order[class_index == i]
        num_truth = int(np.count_nonzero(truth.class_index == i))
        ap[name] = average_precision(found.score[own], true_positive[own], num_truth) if num_truth else None
    return AVAResult(ap, float(np.mean([x for x in ap.values() if x is not None])), capacity)


def average_precision(score: NDArray[np.float64], true_positive: NDArray[np.bool_], num_truth: int) -> float:
    """Return the area under the precision-recall curve, precision made monotone (PASCAL VOC since 2010).

    Args:
        score: float64 (N,), of the detections of one class.
        true_positive: bool (N,), whether a detection is one.
        num_truth: number of ground-truth boxes, at least 1.
    """
    order = np.argsort(score)[::-1]  # not stable, as in the official code: the same order among equal scores
    ranks = np.flatnonzero(true_positive[order])  # precision has its local maxima, and recall grows, at true positives
    num_found = np.arange(1, len(ranks) + 1)
    precision = np.maximum.accumulate((num_found / (ranks + 1))[::-1])[::-1]
    return float(np.sum(np.diff(num_found / num_truth, prepend=0) * precision))


@dataclass(frozen=True)
class _Rows:
    """The rows of a table that are evaluated.

    Attributes:
        table: the table.
        row: int64 (N,), their index in it.
        key: int64 (N,), number of the key frame, the same for ground truth and detections.
        class_index: int64 (N,), from 0.
        group: int64 (N,), number of the pair of key frame and class.
        score: float64 (N,).
    """

    table: BoxTable
    row: NDArray[np.int64]
    key: NDArray[np.int64]
    class_index: NDArray[np.int64]
    group: NDArray[np.int64]
    score: NDArray[np.float64]


def _select(table: BoxTable, number: Mapping[KeyFrameId, int], class_names: Mapping[int, str]) -> _Rows:
    """Return the rows of listed classes in the key frames that count: those that have a number."""
    numbers = np.array([number.get(frame, -1) for frame in table.key_frame_ids], np.int64)
    class_index = pd.Index(list(class_names)).get_indexer(pd.Index(table.action_id))
    key = numbers[table.key]
    row = np.flatnonzero((class_index >= 0) & (key >= 0))
    key, class_index = key[row], class_index[row]
    return _Rows(table, row, key, class_index, key * len(class_names) + class_index, table.score[row])


def _check_same_data(ground_truth: BoxTable, num_truth: int, detections: BoxTable, num_found: int) -> None:
    """Raise DataError, with the reason, where mAP would be zero for lack of a common key frame, class or unit."""
    if not num_truth:
        raise DataError(f"Nothing in the ground truth is to be evaluated; it has {_examples(ground_truth)}.")
    if not len(detections):
        logger.warning("There are no detections at all: mAP is 0.")
    elif np.median(detections.boxes[:: 1 + len(detections) // 1000].max(axis=1)) > 2:
        box = ", ".join(f"{x:g}" for x in detections.boxes[0])
        raise DataError(f"The detections' boxes are in pixels (the first is {box}); divide them by the frame's size.")
    elif not num_found:
        raise DataError(
            "No detection has a listed action in a key frame of the ground truth: is it another data set, or are "
            f"timestamps or action ids others? Detections have {_examples(detections)}; the ground truth has "
            f"{_examples(ground_truth)}."
        )


def _examples(table: BoxTable) -> str:
    frames = [",".join(frame) for frame in table.key_frames[:3]]
    return f"key frames like {frames} and action ids like {np.unique(table.action_id)[:5].tolist()}"


def _official_order(rows: _Rows, in_question: NDArray[np.bool_], capacity: int | None = None) -> NDArray[np.int64]:
    """Return the indices of the rows that the official reader keeps, in its order.

    That is by key frame, in the order of their first rows, and by falling score; the order among equal scores is the
    official one where it matters.

    Args:
        in_question: bool (N,), rows for which the order among equal scores of a group matters.
        capacity: rows kept of a key frame; None: all.
    """
    limit = capacity or max(len(rows.row), 1)
    frame, _ = pd.factorize(rows.key)
    order = np.lexsort((-rows.score, frame))
    key, score = frame[order], rows.score[order]
    kept = np.ones(len(key), bool)
    kept[limit:] = key[limit:] != key[:-limit]
    cut = kept[:-1] & ~kept[1:] & (key[1:] == key[:-1]) & (score[1:] == score[:-1])
    replayed = np.zeros(len(key) + 1, bool)
    replayed[key[1:][cut]] = True
    replayed[frame[_equal_scores(rows, np.flatnonzero(in_question))]] = True
    replayed = replayed[key]
    order[replayed & kept] = _heaps(rows, order[replayed], key[replayed], limit)
    return order[kept]


def _equal_scores(rows: _Rows, subset: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of a subset of the rows that have the score of another one in their group."""
    subset = subset[np.lexsort((rows.score[subset], rows.group[subset]))]
    equal = (np.diff(rows.group[subset]) == 0) & (np.diff(rows.score[subset]) == 0)
    return subset[1:][equal]


def _heaps(rows: _Rows, index: NDArray[np.int64], key: NDArray[np.int64], capacity: int) -> list[int]:
    """Return what the official reader's heaps keep of these rows, in its order, key frame by key frame.

    Args:
        index: int64 (M,), which of the rows; key: int64 (M,), their key frames, in order.
    """
    index = index[np.lexsort((index, key))]  # as they stand in the file
    x1, y1, x2, y2 = rows.table.boxes[rows.row[index]].T.tolist()
    action_id = rows.table.action_id[rows.row[index]].tolist()
    entries = list(zip(rows.score[index].tolist(), action_id, y1, x1, y2, x2, index.tolist(), strict=True))
    starts = np.flatnonzero(np.diff(key, prepend=-1)).tolist()
    kept = []
    for start, stop in zip(starts, [*starts[1:], len(key)], strict=False):
        heap: list[tuple] = []
        for entry in entries[start:stop]:
            if len(heap) < capacity:
                heapq.heappush(heap, entry)
            elif entry[0] > heap[0][0]:
                heapq.heapreplace(heap, entry)
        kept += [entry[-1] for entry in sorted(heap, key=lambda entry: -entry[0])]
    return kept


def _has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])


def _match(found: _Rows, candidates: NDArray[np.int64], truth: _Rows) -> NDArray[np.bool_]:
    """Return which detections are true positives, bool (M,).

    Args:
        candidates: int64 (M,), detections in the official order, each in a group that has ground truth.
    """
    true_positive = np.zeros(len(candidates), bool)
    if not len(candidates):
        return true_positive
    by_group = np.argsort(found.group[candidates], kind="stable")
    detection = candidates[by_group]
    target = _official_order(truth, np.ones(len(truth.row), bool))
    target = target[np.argsort(truth.group[target], kind="stable")]

    first, last = (np.searchsorted(truth.group[target], found.group[detection], side) for side in ("left", "right"))
    count = last - first
    start = np.cumsum(count) - count
    i = np.repeat(np.arange(len(count)), count)  # all pairs of a detection and a ground-truth box of its group
    j = np.arange(len(i)) - np.repeat(start - first, count)
    iou = _iou(found.table.boxes[found.row[detection[i]]], truth.table.boxes[truth.row[target[j]]])
    best = np.maximum.reduceat(iou, start)
    pairs = np.flatnonzero((iou == best[i]) & (iou >= IOU_THRESHOLD))
    pairs = pairs[np.unique(i[pairs], return_index=True)[1]]  # of boxes overlapped equally the first
    pairs = pairs[np.unique(j[pairs], return_index=True)[1]]  # of a box's detections the first: the highest score
    true_positive[by_group[i[pairs]]] = True
    return true_positive


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes XYXY, (N, 4) with (N, 4), in the official order of operations."""
    height = np.maximum(0.0, np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]))
    width = np.maximum(0.0, np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]))
    area_a, area_b = ((x[:, 3] - x[:, 1]) * (x[:, 2] - x[:, 0]) for x in (a, b))
    return height * width / (area_a + area_b - height * width)
