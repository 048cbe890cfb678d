"""AVA's metric: mean average precision at IoU 0.5 (PASCAL VOC), equal to the official evaluator's to the last digit.

Pure functions on arrays; imports neither torch nor detectron2.  What the official evaluator does not define in words,
the order among equal scores of a key frame and which of them its `capacity` keeps, follows from the heap that its
reader keeps for each key frame.  Key frames where that can matter are few: for those alone the heap is replayed
(`_heaps`).

Equal scores of one class in the precision-recall curve: the official evaluator sorts them with numpy's default sort,
which is not stable and differs between CPUs, so its figure is not defined there.  Ours is that of a stable sort: of
equal scores the one that comes last in the official order counts first.  `AVAResult.mean_ap_range` says what the worst
and the best order would give.
"""

import heapq
import logging
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vdet_ssl.errors import DataError
from vdet_ssl.metrics.ava_result import AVAResult
from vdet_ssl.structures.ava_csv import (
    BoxTable,
    FilePath,
    KeyFrameId,
    read_annotations,
    read_boxes,
    read_excluded,
)
from vdet_ssl.structures.label_map import read_label_map

IOU_THRESHOLD = 0.5
_TIES_TO_WARN_OF = 1e-5  # of mAP
logger = logging.getLogger(__name__)


def evaluate_files(
    ground_truth: FilePath,
    detections: FilePath,
    label_map: FilePath,
    capacity: int | None = None,
    excluded: FilePath | None = None,
    *,
    as_pyslowfast: bool = False,
) -> AVAResult:
    """Evaluate csv files; arguments as in `evaluate`, each the path of a file.

    Raises:
        DataError: a file does not follow its format, or the two are not about the same data.
    """
    excluded_ids = read_excluded(excluded) if excluded else frozenset()
    annotations = read_annotations(ground_truth)
    table, class_names = read_boxes(detections), read_label_map(label_map)
    try:
        return evaluate(annotations, table, class_names, capacity, excluded_ids, as_pyslowfast=as_pyslowfast)
    except DataError as error:
        raise DataError(f"{detections} and {ground_truth}: {error}") from None


def evaluate(
    ground_truth: BoxTable,
    detections: BoxTable,
    class_names: Mapping[int, str],
    capacity: int | None = None,
    excluded: AbstractSet[KeyFrameId] = frozenset(),
    *,
    as_pyslowfast: bool = False,
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
        as_pyslowfast: reproduce the figure that PySlowFast logs: all detections count, also those in key frames without
            ground truth, and a box is taken by the first detection in the order of the rows, not by that of the highest
            score.
    Raises:
        DataError: the two cannot be about the same data, where the figure would be a meaningless zero; or the
            detections name a key frame twice.
    """
    return evaluate_parts(ground_truth, [detections], class_names, capacity, excluded, as_pyslowfast=as_pyslowfast)


def evaluate_parts(
    ground_truth: BoxTable,
    detections: Iterable[BoxTable],
    class_names: Mapping[int, str],
    capacity: int | None = None,
    excluded: AbstractSet[KeyFrameId] = frozenset(),
    *,
    as_pyslowfast: bool = False,
) -> AVAResult:
    """Do as `evaluate`, of detections that come in parts: only those that the capacity keeps are held in memory.

    Args:
        detections: tables, each with key frames of its own.
    """
    if as_pyslowfast and capacity:
        raise ValueError("PySlowFast keeps all detections: it has no capacity")
    number = {frame: i for i, frame in enumerate(ground_truth.key_frame_ids) if frame not in excluded}
    gt = _select(ground_truth, number, class_names)
    if not len(gt.row):
        raise DataError(f"Nothing in the ground truth is to be evaluated; it has {_examples(ground_truth)}.")
    _refuse_pixels("ground truth", ground_truth)
    first, seen = None, set[KeyFrameId]()
    counted = [_Counted(*3 * [np.zeros(0)])]
    for table in detections:
        first = table if first is None or not len(first) else first
        _refuse_known_frames(table.key_frame_ids, seen)
        _refuse_pixels("detections", table)
        counted.append(_count(gt, table, number, class_names, capacity or None, excluded, as_pyslowfast))
    class_index, score, true_positive = (np.concatenate(columns) for columns in zip(*counted, strict=True))
    _check_same_data(ground_truth, first, len(score))

    first_id = min(1, *class_names)  # in an array by action id, as official: its length decides how the mean is rounded
    ap = {order: np.full(max(class_names) + 1 - first_id, np.nan) for order in ("stable", "worst", "best")}
    for i, action_id in enumerate(class_names):
        own = class_index == i
        num_gt = int(np.count_nonzero(gt.class_index == i))
        for order in ap if num_gt else ():
            ap[order][action_id - first_id] = average_precision(
                score[own], true_positive[own].astype(bool), num_gt, order
            )
    mean_ap, worst, best = (float(np.nanmean(x)) for x in ap.values())
    _warn_of_ties(mean_ap, worst, best)
    of_class = {
        name: None if np.isnan(x := ap["stable"][i - first_id]) else float(x) for i, name in class_names.items()
    }
    return AVAResult(of_class, mean_ap, capacity or None, as_pyslowfast, (worst, best))


def average_precision(
    score: NDArray[np.float64], true_positive: NDArray[np.bool_], num_gt: int, ties: str = "stable"
) -> float:
    """Return the area under the precision-recall curve, precision made monotone (PASCAL VOC since 2010).

    Args:
        score: float64 (N,), of the detections of one class.
        true_positive: bool (N,), whether a detection is one.
        num_gt: number of ground-truth boxes, at least 1.
        ties: which of equal scores comes first: "stable": the last in the order given, as in the official code with a
            stable sort; "worst", "best": the false, or the true positives.
    """
    if ties == "stable":
        order = np.argsort(score, kind="stable")[::-1]
    else:
        order = np.lexsort((true_positive if ties == "worst" else ~true_positive, -score))
    ranks = np.flatnonzero(true_positive[order])  # precision has its local maxima, and recall grows, at true positives
    num_true = np.arange(1, len(ranks) + 1)
    precision, recall = np.maximum.accumulate((num_true / (ranks + 1))[::-1])[::-1], num_true / num_gt
    if len(ranks) < num_gt:  # the official sum has a last term of 0, which changes the order of summation
        precision, recall = np.append(precision, 0.0), np.append(recall, 1.0)
    return float(np.sum(np.diff(recall, prepend=0) * precision))


class _Counted(NamedTuple):
    """The detections that count: index of the class, score, and whether it is a true positive; (N,) each."""

    class_index: NDArray
    score: NDArray
    true_positive: NDArray


def _count(
    gt: "_Rows",
    detections: BoxTable,
    number: Mapping[KeyFrameId, int],
    class_names: Mapping[int, str],
    capacity: int | None,
    excluded: AbstractSet[KeyFrameId],
    as_pyslowfast: bool,
) -> _Counted:
    """Match a table of detections with the ground truth."""
    if as_pyslowfast:
        others = [frame for frame in detections.key_frame_ids if frame not in number and frame not in excluded]
        number = {**number, **{frame: len(number) + len(excluded) + i for i, frame in enumerate(others)}}
    det = _select(detections, number, class_names)
    has_gt = np.isin(det.group, gt.group)
    order = _order_of_rows(det) if as_pyslowfast else _official_order(det, has_gt, capacity)
    order = order[_has_area(detections.boxes)[det.row[order]]]
    target = _order_of_rows(gt) if as_pyslowfast else _official_order(gt, np.ones(len(gt.row), bool))
    candidates = order[has_gt[order]]
    true_positive = np.zeros(len(det.row), bool)
    true_positive[candidates] = _match(det, candidates, gt, target)
    return _Counted(det.class_index[order].astype(np.uint16), det.score[order], true_positive[order])


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


def _refuse_known_frames(frames: list[KeyFrameId], seen: set[KeyFrameId]) -> None:
    """Add key frames to those that were seen; DataError if one of them has been."""
    num_before = len(seen)
    seen.update(frames)
    if len(seen) < num_before + len(frames):
        raise DataError("The detections name a key frame twice, with timestamps that are written differently.")


def _refuse_pixels(what: str, table: BoxTable) -> None:
    if len(table) and np.median(table.boxes[:: 1 + len(table) // 1000].max(axis=1)) > 2:
        box = ", ".join(f"{x:g}" for x in table.boxes[0])
        raise DataError(f"The boxes of the {what} are in pixels (the first is {box}); divide them by the frame's size.")


def _check_same_data(ground_truth: BoxTable, detections: BoxTable | None, num_counted: int) -> None:
    """Raise DataError, with the reason, where mAP would be zero for lack of a common key frame or class."""
    if detections is None or not len(detections):
        logger.warning("There are no detections at all: mAP is 0.")
    elif not num_counted:
        raise DataError(
            "No detection has a listed action in a key frame of the ground truth: is it another data set, or are "
            f"timestamps or action ids others? Detections have {_examples(detections)}; the ground truth has "
            f"{_examples(ground_truth)}."
        )


def _warn_of_ties(mean_ap: float, worst: float, best: float) -> None:
    if best - worst > _TIES_TO_WARN_OF:
        logger.warning(
            f"Detections of one class have equal scores: by the order among them mAP is from {worst:.6f} to {best:.6f}. "
            f"It is {mean_ap:.6f} in the order of a stable sort; the official evaluator's order depends on the processor."
        )


def _examples(table: BoxTable) -> str:
    frames = [",".join(frame) for frame in table.key_frames[:3]]
    return f"key frames like {frames} and action ids like {np.unique(table.action_id)[:5].tolist()}"


def _order_of_rows(rows: _Rows) -> NDArray[np.int64]:
    """Return the indices of all rows by key frame, in the order of their first rows, and as they stand in the file."""
    frame, _ = pd.factorize(rows.key)
    return np.argsort(frame, kind="stable")


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
    entries = list(zip(rows.score[index].tolist(), action_id, y1, x1, y2, x2, strict=True))
    row_of = dict(zip(map(id, entries), index.tolist(), strict=True))  # not in the entries: it would decide ties
    starts = np.flatnonzero(np.diff(key, prepend=-1)).tolist()
    kept = []
    for start, stop in zip(starts, [*starts[1:], len(key)], strict=False):
        heap: list[tuple] = []
        for entry in entries[start:stop]:
            if len(heap) < capacity:
                heapq.heappush(heap, entry)
            elif entry[0] > heap[0][0]:
                heapq.heapreplace(heap, entry)
        kept += [row_of[id(entry)] for entry in sorted(heap, key=lambda entry: -entry[0])]
    return kept


def _has_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])


def _match(det: _Rows, candidates: NDArray[np.int64], gt: _Rows, target: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which detections are true positives, bool (M,).

    Args:
        candidates: int64 (M,), detections in the order in which they take boxes, each in a group that has ground truth.
        target: int64 (G,), boxes of the ground truth in the order in which they are taken.
    """
    true_positive = np.zeros(len(candidates), bool)
    if not len(candidates):
        return true_positive
    by_group = np.argsort(det.group[candidates], kind="stable")
    detection = candidates[by_group]
    target = target[np.argsort(gt.group[target], kind="stable")]

    first, last = (np.searchsorted(gt.group[target], det.group[detection], side) for side in ("left", "right"))
    count = last - first
    start = np.cumsum(count) - count
    i = np.repeat(np.arange(len(count)), count)  # all pairs of a detection and a ground-truth box of its group
    j = np.arange(len(i)) - np.repeat(start - first, count)
    iou = _iou(det.table.boxes[det.row[detection[i]]], gt.table.boxes[gt.row[target[j]]])
    best = np.maximum.reduceat(iou, start)
    pairs = np.flatnonzero((iou == best[i]) & (iou >= IOU_THRESHOLD))
    pairs = pairs[np.unique(i[pairs], return_index=True)[1]]  # of boxes overlapped equally the first
    pairs = pairs[np.unique(j[pairs], return_index=True)[1]]  # of a box's detections the first, which takes it
    true_positive[by_group[i[pairs]]] = True
    return true_positive


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes XYXY, (N, 4) with (N, 4), in the official order of operations."""
    height = np.maximum(0.0, np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]))
    width = np.maximum(0.0, np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]))
    area_a, area_b = ((x[:, 3] - x[:, 1]) * (x[:, 2] - x[:, 0]) for x in (a, b))
    return height * width / (area_a + area_b - height * width)
