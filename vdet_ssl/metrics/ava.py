"""AVA's metric: mean average precision at IoU 0.5 (PASCAL VOC), equal to the official evaluator's to the last digit.

Pure functions on arrays; imports neither torch nor detectron2.  What the official evaluator does not define in words,
the order among equal scores and which of them its `capacity` keeps, follows from the heap that its reader keeps for
each key frame.  Key frames where that can matter are few: for those alone the heap is replayed (`_heap_orders`).
"""

import heapq
import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tabulate import tabulate

from vdet_ssl.errors import AvaFormatError
from vdet_ssl.structures.ava_csv import BoxTable, line_of_row, read_boxes, read_excluded, read_label_map

IOU_THRESHOLD = 0.5
OFFICIAL_CAPACITY = 50
BLOCK_ROWS = 2**16  # detections looked at together
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AVAResult:
    """Average precision of each class, and their mean.

    Attributes:
        ap: class name -> average precision in 0..1, None for a class without ground truth.
        mean_ap: mean over the classes that have ground truth.
        capacity: (box, class) detections kept of a key frame, None for all of them.
    """

    ap: dict
    mean_ap: float
    capacity: int | None

    def as_dict(self):
        return {"mAP": self.mean_ap, "capacity": self.capacity, "AP": self.ap}

    def describe(self):
        """Say which detections the figure counts."""
        if self.capacity is None:
            return "all detections of a key frame count, as in PySlowFast"
        kept = f"the {self.capacity} (box, class) detections of highest score in a key frame count"
        return kept + (", as in the official evaluator" if self.capacity == OFFICIAL_CAPACITY else "")

    def table(self):
        """Format the figures for people to read."""
        rows = [(name, "no ground truth" if ap is None else f"{ap:.4f}") for name, ap in self.ap.items()]
        return tabulate([*rows, ("mAP", f"{self.mean_ap:.4f}")], ["class", "AP at IoU 0.5"], disable_numparse=True)


def evaluate_files(ground_truth, detections, label_map, capacity=None, excluded=None):
    """Evaluate csv files; arguments as in `evaluate`, each the path of a file."""
    keys = read_excluded(excluded) if excluded else frozenset()
    truth = read_boxes(ground_truth, score="person_id")
    wrong = truth.score % 1 != 0
    if wrong.any():
        row = int(wrong.argmax())
        reason = f"person_id is {truth.score[row]:g}, no whole number: are these detections, not the ground truth?"
        raise AvaFormatError(ground_truth, line_of_row(ground_truth, row), reason)
    return evaluate(truth, read_boxes(detections), read_label_map(label_map), capacity, keys)


def evaluate(ground_truth, detections, class_names, capacity=None, excluded=frozenset()):
    """Compute AVA's mAP.

    A detection is matched with the ground-truth box of its class that it overlaps most; it is right if that overlap
    is at least 0.5 and no detection of higher score has the box already.  Left out are detections without area and
    those in key frames that `ground_truth` does not name (the official evaluator leaves them out since AVA v2.2).

    Args:
        ground_truth, detections: BoxTable.  Actions that are not in `class_names` are left out first.
        class_names: dict, action id -> name.
        capacity: (box, class) detections kept of a key frame, those of highest score; None keeps all.
        excluded: set of `key_frame_id` to leave out.
    Returns:
        AVAResult
    Raises:
        ValueError: when the two cannot be about the same data, where the figure would be a meaningless zero.
    """
    capacity = capacity or None
    named = set(ground_truth.key_frame_ids) - excluded
    grouped = _grouped_by_key_frame(detections, class_names)
    numbered = _numbered_alike(ground_truth, grouped)
    counts = np.array([frame in named for frame in numbered.key_frame_ids], bool)
    truth = _Truth(_select(numbered, class_names, counts), len(counts) * len(class_names))
    judged = [
        _judge(_select(block, class_names, counts), truth, len(class_names), capacity) for block in _blocks(grouped)
    ]
    scores, right = ([np.concatenate(parts) for parts in zip(*x, strict=True)] for x in zip(*judged, strict=True))
    _check_same_data(ground_truth, len(truth.group), detections, sum(map(len, scores)))
    num_truth = np.bincount(truth.group % len(class_names), minlength=len(class_names))
    ap = [average_precision(*x) if x[2] else None for x in zip(scores, right, num_truth.tolist(), strict=True)]
    mean_ap = float(np.mean([x for x in ap if x is not None]))
    return AVAResult(dict(zip(class_names.values(), ap, strict=True)), mean_ap, capacity)


def average_precision(score, right, num_truth):
    """Return the area under the precision-recall curve, precision made monotone (PASCAL VOC since 2010).

    Args:
        score: float64 (N,); right: bool (N,), whether a detection found a ground-truth box.
        num_truth: number of ground-truth boxes, at least 1.
    """
    order = np.argsort(score)[::-1]  # not stable, as in the official code: the same order among equal scores
    ranks = np.flatnonzero(right[order])  # precision has its local maxima, and recall grows, where a box is found
    num_right = np.arange(1, len(ranks) + 1)
    precision = np.maximum.accumulate((num_right / (ranks + 1))[::-1])[::-1]
    return float(np.sum(np.diff(num_right / num_truth, prepend=0) * precision))


@dataclass
class _Rows:
    """The rows of a table that are evaluated: their index, key, class (from 0) and score; `group`: key and class."""

    table: BoxTable
    index: np.ndarray
    key: np.ndarray
    class_index: np.ndarray
    score: np.ndarray
    group: np.ndarray

    def boxes(self, i):
        return self.table.boxes[self.index[i]]


class _Truth:
    """Ground-truth boxes by group, in the official order within it, and whether a group has any."""

    def __init__(self, rows, num_groups):
        order = _official_order(rows, _ambiguous_keys(rows, np.arange(len(rows.index))))
        order = order[np.argsort(rows.group[order], kind="stable")]
        self.group, self.boxes = rows.group[order], rows.boxes(order)
        self.has_group = np.zeros(num_groups, bool)
        self.has_group[self.group] = True


def _grouped_by_key_frame(table, class_names):
    """Return the table with the rows of a key frame together, key frames in the order of their first listed action."""
    if (table.key[1:] >= table.key[:-1]).all():
        return table
    listed = np.flatnonzero(np.isin(table.action_id, list(class_names)))
    key, used = pd.factorize(table.key[listed])
    order = np.argsort(key, kind="stable")
    table = table.take(listed[order])
    return replace(table, key=key[order], key_frames=[table.key_frames[i] for i in used])


def _numbered_alike(table, other):
    """Return the table with the keys of the other; key frames that the other has not follow after its own."""
    own = dict(zip(table.key_frame_ids, table.key_frames, strict=True))
    known = dict.fromkeys(other.key_frame_ids)
    if len(known) < len(other.key_frames):
        raise ValueError("The detections name a key frame twice, with timestamps that are written differently.")
    added = [frame for frame in own if frame not in known]
    number = {frame: i for i, frame in enumerate([*known, *added])}
    new_key = np.array([number[frame] for frame in table.key_frame_ids], np.int64)
    return replace(table, key=new_key[table.key], key_frames=other.key_frames + [own[frame] for frame in added])


def _blocks(table):
    """Split a table between key frames into blocks that stay in the processor's cache."""
    cuts = np.unique([0, *np.searchsorted(table.key, table.key[::BLOCK_ROWS])])
    for start, stop in zip(cuts, np.append(cuts, len(table))[1:], strict=True):
        yield table.take(slice(start, stop))


def _select(table, class_names, counts):
    """Return the rows of listed classes in the key frames that count."""
    class_index = pd.Index(list(class_names)).get_indexer(table.action_id)
    index = np.flatnonzero((class_index >= 0) & counts[table.key])
    key, class_index = table.key[index], class_index[index]
    return _Rows(table, index, key, class_index, table.score[index], key * len(class_names) + class_index)


def _judge(found, truth, num_classes, capacity):
    """Return, for each class, the scores of the detections that count, by key, and for each class which are right."""
    matchable = truth.has_group[found.group]
    order = _official_order(found, _ambiguous_keys(found, np.flatnonzero(matchable)), capacity)
    order = order[_has_area(found.table.boxes)[found.index[order]]]
    candidates = order[matchable[order]]
    candidates = candidates[np.argsort(found.group[candidates], kind="stable")]
    right = np.zeros(len(found.index), bool)
    right[candidates] = _match(found.group[candidates], found.boxes(candidates), truth.group, truth.boxes)
    order = order[np.argsort(found.class_index[order].astype(np.uint16), kind="stable")]
    cuts = np.searchsorted(found.class_index[order], np.arange(1, num_classes))
    return np.split(found.score[order], cuts), np.split(right[order], cuts)


def _check_same_data(ground_truth, num_truth, detections, num_found):
    """Raise ValueError, with the reason, where mAP would be zero for lack of a common key frame, class or unit."""
    if not num_truth:
        raise ValueError(f"Nothing in the ground truth is to be evaluated; it has {_examples(ground_truth)}.")
    if not len(detections):
        logger.warning("There are no detections at all: mAP is 0.")
    elif np.median(detections.boxes[:: 1 + len(detections) // 1000].max(axis=1)) > 2:
        box = ", ".join(f"{x:g}" for x in detections.boxes[0])
        raise ValueError(f"The detections' boxes are in pixels (the first is {box}); divide them by the frame's size.")
    elif not num_found:
        raise ValueError(
            "No detection has a listed action in a key frame of the ground truth: is it another data set, or are "
            f"timestamps or action ids others? Detections have {_examples(detections)}; the ground truth has "
            f"{_examples(ground_truth)}."
        )


def _examples(table):
    frames = [",".join(frame) for frame in table.key_frames[:3]]
    return f"key frames like {frames} and action ids like {np.unique(table.action_id)[:5].tolist()}"


def _ambiguous_keys(x, subset):
    """Return the keys where, in a subset of the rows, boxes of one class have equal scores."""
    group, score = x.group[subset], x.score[subset]
    order = np.lexsort((score, group))
    equal = (np.diff(group[order]) == 0) & (np.diff(score[order]) == 0)
    return x.key[subset[order[1:][equal]]]


def _official_order(x, ambiguous, capacity=None):
    """Return the indices of the rows by key, falling score, and the official order among equal scores.

    Args:
        ambiguous: keys where the order among equal scores matters.
        capacity: rows kept of a key frame.
    """
    order = _argsort_key_and_score(x.key, x.score)
    key, score = x.key[order], x.score[order]
    same_key = key[1:] == key[:-1]
    replayed = [ambiguous, key[1:][same_key & (score[1:] > score[:-1])]]  # the second: the sort has rounded
    keep = np.ones(len(key), bool)
    if capacity is not None:
        keep[capacity:] = key[capacity:] != key[:-capacity]
        first_out = np.flatnonzero(same_key & keep[:-1] & ~keep[1:]) + 1
        replayed.append(key[first_out[score[first_out] == score[first_out - 1]]])
    for k, rows in _heap_orders(x, np.concatenate(replayed), capacity):
        start = np.searchsorted(key, k)
        order[start : start + len(rows)] = rows
    return order[keep]


def _argsort_key_and_score(key, score):
    """Sort by key and falling score in one pass: packed in 64 bits, the score rounded to those that the key leaves."""
    bits = 63 - int(key.max(initial=1)).bit_length()
    top, bottom = score.max(initial=0), score.min(initial=0)
    falling = top - score
    falling *= (2.0 ** min(bits, 52) - 1) / (top - bottom or 1.0)
    packed = falling.astype(np.int64)
    packed |= key << bits
    return np.argsort(packed)


def _heap_orders(x, keys, capacity):
    """Yield for each of the keys what the official reader keeps of its rows, in its order."""
    chosen = np.zeros(x.key.max(initial=-1) + 1, bool)
    chosen[keys] = True
    rows = np.flatnonzero(chosen[x.key])
    rows = rows[np.argsort(x.key[rows], kind="stable")]
    keys, start = np.unique(x.key[rows], return_index=True)
    x1, y1, x2, y2 = x.boxes(rows).T.tolist()
    action_id = x.table.action_id[x.index[rows]].tolist()
    entries = list(zip(x.score[rows].tolist(), action_id, y1, x1, y2, x2, rows.tolist(), strict=True))
    for key, first, last in zip(keys.tolist(), start, np.append(start, len(rows))[1:], strict=True):
        heap = []
        for entry in entries[first:last]:
            if capacity is None or len(heap) < capacity:
                heapq.heappush(heap, entry)
            elif entry[0] > heap[0][0]:
                heapq.heapreplace(heap, entry)
        yield key, [entry[-1] for entry in sorted(heap, key=lambda entry: -entry[0])]


def _has_area(boxes):
    return (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])


def _match(found_group, found_boxes, truth_group, truth_boxes):
    """Return which detections are right, bool (N,).

    Args:
        found_group, truth_group: int64 (N,) and (M,), sorted; every detection's group is among the second.  Within a
            group detections and ground truth have the official order.
        found_boxes, truth_boxes: float64 (N, 4) and (M, 4), XYXY.
    """
    right = np.zeros(len(found_group), bool)
    if not len(right):
        return right
    first = np.searchsorted(truth_group, found_group)
    count = np.searchsorted(truth_group, found_group, side="right") - first
    start = np.cumsum(count) - count
    i = np.repeat(np.arange(len(count)), count)  # all pairs of a detection and a ground-truth box of its group
    j = np.arange(len(i)) - np.repeat(start - first, count)
    iou = _iou(found_boxes[i], truth_boxes[j])
    best = np.maximum.reduceat(iou, start)
    pairs = np.flatnonzero((iou == best[i]) & (iou >= IOU_THRESHOLD))
    pairs = pairs[np.unique(i[pairs], return_index=True)[1]]  # of boxes overlapped equally the first
    pairs = pairs[np.unique(j[pairs], return_index=True)[1]]  # of a box's detections the first: the highest score
    right[i[pairs]] = True
    return right


def _iou(a, b):
    """Intersection over union of boxes XYXY, (N, 4) with (N, 4), in the official order of operations."""
    height = np.maximum(0.0, np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]))
    width = np.maximum(0.0, np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]))
    area_a, area_b = ((x[:, 3] - x[:, 1]) * (x[:, 2] - x[:, 0]) for x in (a, b))
    return height * width / (area_a + area_b - height * width)
