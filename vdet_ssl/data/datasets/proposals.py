"""Proposals: boxes of detected people for the key frames of a data set (B.3), in the files that others publish."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vdet_ssl.data.records import Record, Records
from vdet_ssl.errors import AvaFormatError, ConfigError, DataError
from vdet_ssl.safe_pickle import read_pickle
from vdet_ssl.structures.ava_csv import (
    SLACK,
    BoxTable,
    KeyFrameId,
    clip_boxes,
    key_frame_id,
    line_of_row,
    read_boxes,
    refuse_far_boxes,
)

GROUND_TRUTH = "ground_truth"  # in place of a file: the annotated boxes
_MAX_BOXES = 20_000_000  # of a file, 300 for each key frame of AVA
_SCORES = (
    "the score is {score:g}, but a detector's lie between 0 and 1: are these annotations, whose last column is "
    f"person_id? To evaluate on the annotated boxes set DATASETS.PROPOSAL_FILES_TEST to ('{GROUND_TRUTH}',)"
)

logger = logging.getLogger(__name__)


def add_proposals(records: Records, path: str) -> list[Record]:
    """Return the records of key frames, each with the `proposal_fields` of its proposals, of which there may be none.

    Args:
        path: see `read_proposals`; `GROUND_TRUTH` stands for the annotated boxes, with score 1.
    Raises:
        DataError: as `read_proposals`, or the file has none of the key frames.
    """
    everyone = (records[i] for i in range(len(records)))
    if path == GROUND_TRUTH:
        return [{**record, **proposal_fields(_with_scores(record["boxes"], None))} for record in everyone]
    proposals = _read_once(path)
    none = np.zeros((0, 5), np.float32)
    result, num_named = [], 0
    for record in everyone:
        frame = key_frame_id(record["video_id"], record["timestamp"])
        num_named += frame in proposals
        result.append({**record, **proposal_fields(proposals.get(frame, none))})
    if not any(map(len, proposals.values())):
        raise DataError(f"{path} is empty: there is nobody in it; make it with datasets/prepare_proposals.py")
    if result and not num_named:
        names = [f"{record['video_id']},{record['timestamp']}" for record in result[:3]]
        raise DataError(
            f"{path} has proposals in none of the {len(result)} key frames of the data set, which are like {names}; the "
            f"file has (video id, microseconds) like {list(proposals)[:3]}"
        )
    logger.info(f"{path}: proposals in {num_named} of {len(result)} key frames")
    return result


def check_threshold(records: Records, path: str, threshold: float, key: str) -> None:
    """Log how many of the proposals have a score over a threshold; ConfigError if nobody has.

    Args:
        path: of the proposals' file, for the message.
        key: of the config, whose value the threshold is.
    """
    scores = np.concatenate([np.zeros(0, np.float32), *(records[i]["proposal_scores"] for i in range(len(records)))])
    num_kept = int((scores > threshold).sum())
    what = f"{path}: {num_kept} of {len(scores)} proposals in the data set's key frames have a score over {threshold:g} ({key})"
    if len(scores) and not num_kept:
        raise ConfigError(f"{what}; the highest score is {scores.max():g}: set {key} below it")
    logger.info(f"{what}; the others are left out")


def proposal_fields(proposals: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the fields of a record that hold its proposals, (M, 5): "proposal_boxes" and "proposal_scores"."""
    return {"proposal_boxes": proposals[:, :4], "proposal_scores": proposals[:, 4]}


def read_proposals(path: str) -> dict[KeyFrameId, NDArray[np.float32]]:
    """Read proposals: boxes of detected people.

    Args:
        path: *.csv or *.csv.gz as PySlowFast's: video_id,timestamp,x1,y1,x2,y2,action_id or nothing,score; a box that
            has several rows, one for each action, counts once.  *.pkl as mmaction2's: dict "video_id,timestamp" ->
            array (M, 4) or (M, 5) of boxes XYXY in 0..1 and, where given, their score (else 1).  Boxes that leave 0..1 by
            up to `SLACK` are clipped.
    Returns:
        dict, `key_frame_id` -> float32 (M, 5): XYXY in 0..1 and score.
    Raises:
        DataError: the file is not one of these (the message says which line or key).
    """
    return _read_pickle(path) if path.endswith((".pkl", ".pickle")) else _read_csv(path)


_read_once = functools.lru_cache(maxsize=1)(read_proposals)  # one file may be that of all of a run's data sets


def _read_csv(path: str) -> dict[KeyFrameId, NDArray[np.float32]]:
    table = read_boxes(path)
    if not table.key_frames:
        return {}
    refuse_far_boxes(path, table)
    _check_scores(path, table)
    columns = pd.DataFrame(table.boxes, columns=["x1", "y1", "x2", "y2"]).assign(key=table.key)
    table = table.take(np.flatnonzero(~columns.duplicated()))
    boxes = clip_boxes(table.boxes, path)
    order = np.argsort(table.key, kind="stable")
    starts = np.searchsorted(table.key[order], np.arange(1, len(table.key_frames)))
    proposals = np.split(np.column_stack([boxes, table.score])[order], starts)
    return {frame: _with_area(own) for frame, own in zip(table.key_frame_ids, proposals, strict=True)}


def _check_scores(path: str, table: BoxTable) -> None:
    """Raise AvaFormatError where the eighth column is a person's id: out of 0..1, or 0 and 1 alone."""
    wrong = (table.score < 0) | (table.score > 1)
    if not wrong.any() and (table.score % 1 == 0).all():
        wrong = table.score == 0
    if wrong.any():
        row = int(wrong.argmax())
        raise AvaFormatError(path, line_of_row(path, row), _SCORES.format(score=table.score[row]))


def _read_pickle(path: str) -> dict[KeyFrameId, NDArray[np.float32]]:
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DataError(
            f"{path} is not a pickle of a dict video_id,timestamp -> boxes, but of a {type(content).__name__}"
        )
    proposals, boxes_so_far = {}, 0
    for key, value in content.items():
        try:
            own = _with_scores(*_split_scores(_to_array(value)))
            proposals[key_frame_id(*(part.strip() for part in key.split(",")))] = own
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: {str(key)[:100]!r}: {error}") from None
        boxes_so_far += len(own)
        if boxes_so_far > _MAX_BOXES:
            raise DataError(f"{path} has more than {_MAX_BOXES} boxes; keep those of high score")
    if not proposals:
        return {}
    clipped = clip_boxes(np.concatenate(list(proposals.values()))[:, :4].astype(np.float64), path)
    starts = np.cumsum([len(own) for own in proposals.values()])[:-1]
    parts = zip(proposals.items(), np.split(clipped, starts), strict=True)
    return {frame: _with_area(np.column_stack([boxes, own[:, 4]])) for (frame, own), boxes in parts}


def _to_array(value: Any) -> NDArray[np.float64]:
    """Return the boxes of a key frame, float64 (M, 4 or 5); nested lists are looked at before they are multiplied."""
    if isinstance(value, Sequence) and all(
        isinstance(row, Sequence | np.ndarray) and len(row) in (4, 5) for row in value
    ):
        value = np.array([[float(x) for x in row] for row in value])
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiuO":
        raise ValueError(f"{_BOXES}, not {type(value).__name__}")
    if not value.size:
        return np.zeros((0, 5))
    if value.ndim != 2 or value.shape[1] not in (4, 5):
        raise ValueError(f"{_BOXES}; it has the shape {value.shape}")
    return value.astype(np.float64)


_BOXES = "boxes have to be an array (M, 4) or (M, 5) of x1, y1, x2, y2 in 0..1 and a score"


def _split_scores(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Check the boxes and scores of a key frame, (M, 4) or (M, 5); return both, None for scores that there are not."""
    boxes, score = table[:, :4], table[:, 4] if table.shape[1] == 5 else None
    if not np.isfinite(table).all() or ((boxes < -SLACK) | (boxes > 1 + SLACK)).any():
        raise ValueError(_BOXES)
    if score is not None and ((score < 0) | (score > 1)).any():
        raise ValueError(_SCORES.format(score=score[(score < 0) | (score > 1)][0]))
    return boxes, score


def _with_scores(boxes: NDArray[np.float64], score: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """Return boxes and scores, 1 where there is none, as float32 (M, 5)."""
    return np.column_stack([boxes, np.ones(len(boxes)) if score is None else score]).astype(np.float32)


def _with_area(proposals: NDArray[np.float64]) -> NDArray[np.float32]:
    """(M, 5) boxes XYXY and score -> float32, without boxes that have no area."""
    result = proposals.astype(np.float32)
    return result[(result[:, 0] < result[:, 2]) & (result[:, 1] < result[:, 3])]
