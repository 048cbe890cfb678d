"""Proposals: boxes of detected people for the key frames of a data set (B.3), in the files that others publish."""

import functools
import logging

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vdet_ssl.data.records import Record, Records
from vdet_ssl.errors import AvaFormatError, DataError
from vdet_ssl.safe_pickle import read_pickle
from vdet_ssl.structures.ava_csv import KeyFrameId, key_frame_id, line_of_row, read_boxes

_SLACK = 0.01  # detectors' boxes may leave the frame by this fraction of it; they are clipped

logger = logging.getLogger(__name__)


def add_proposals(records: Records, path: str) -> list[Record]:
    """Return the records of key frames, each with the `proposal_fields` of its proposals, of which there may be none.

    Args:
        path: see `read_proposals`.
    Raises:
        DataError: as `read_proposals`, or the file has none of the key frames.
    """
    proposals = _read_once(path)
    none = np.zeros((0, 5), np.float32)
    result, num_named = [], 0
    for record in (records[i] for i in range(len(records))):
        frame = key_frame_id(record["video_id"], record["timestamp"])
        num_named += frame in proposals
        result.append({**record, **proposal_fields(proposals.get(frame, none))})
    if result and not num_named:
        names = [f"{record['video_id']},{record['timestamp']}" for record in result[:3]]
        raise DataError(
            f"{path} has proposals in none of the {len(result)} key frames of the data set, which are like {names}; the "
            f"file has (video id, microseconds) like {list(proposals)[:3]}"
        )
    logger.info(f"{path}: proposals in {num_named} of {len(result)} key frames")
    return result


def proposal_fields(proposals: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the fields of a record that hold its proposals, (M, 5): "proposal_boxes" and "proposal_scores"."""
    return {"proposal_boxes": proposals[:, :4], "proposal_scores": proposals[:, 4]}


def read_proposals(path: str) -> dict[KeyFrameId, NDArray[np.float32]]:
    """Read proposals: boxes of detected people.

    Args:
        path: *.csv or *.csv.gz as PySlowFast's: video_id,timestamp,x1,y1,x2,y2,action_id or nothing,score; a box that
            has several rows, one for each action, counts once.  *.pkl as mmaction2's: dict "video_id,timestamp" ->
            array (M, 4) or (M, 5) of boxes XYXY in 0..1 and, where given, their score (else 1).
    Returns:
        dict, `key_frame_id` -> float32 (M, 5): XYXY in 0..1 and score.
    Raises:
        DataError: the file is not one of these (the message says which line or key).
    """
    return _read_pickle(path) if path.endswith((".pkl", ".pickle")) else _read_csv(path)


_read_once = functools.lru_cache(maxsize=1)(read_proposals)  # one file may be that of all of a run's data sets


def _read_csv(path: str) -> dict[KeyFrameId, NDArray[np.float32]]:
    table = read_boxes(path)
    wrong = _leaves_frame(table.boxes)
    if wrong.any():
        raise AvaFormatError(path, line_of_row(path, int(wrong.argmax())), "the box is not within 0..1")
    columns = pd.DataFrame(table.boxes, columns=["x1", "y1", "x2", "y2"]).assign(key=table.key)
    table = table.take(np.flatnonzero(~columns.duplicated()))
    order = np.argsort(table.key, kind="stable")
    starts = np.searchsorted(table.key[order], np.arange(1, len(table.key_frames)))
    proposals = np.split(np.column_stack([table.boxes, table.score])[order], starts)
    return {frame: _clean(own) for frame, own in zip(table.key_frame_ids, proposals, strict=True)}


def _read_pickle(path: str) -> dict[KeyFrameId, NDArray[np.float32]]:
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DataError(
            f"{path} is not a pickle of a dict video_id,timestamp -> boxes, but of a {type(content).__name__}"
        )
    proposals = {}
    for key, own in content.items():
        try:
            proposals[key_frame_id(*key.split(","))] = _clean(_with_scores(own))
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{path}: {key!r}: {error}") from None
    return proposals


def _with_scores(value: ArrayLike) -> NDArray[np.float64]:
    """Check what a pickle has for a key frame; return it as float64 (M, 5)."""
    boxes = np.array(value, np.float64)
    if not boxes.size:
        return np.zeros((0, 5))
    is_table = boxes.ndim == 2 and boxes.shape[1] in (4, 5) and np.isfinite(boxes).all()
    if not is_table or _leaves_frame(boxes).any():
        raise ValueError("boxes have to be an array (M, 4) or (M, 5) of x1, y1, x2, y2 in 0..1 and a score")
    return boxes if boxes.shape[1] == 5 else np.column_stack([boxes, np.ones(len(boxes))])


def _leaves_frame(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each box XYXY, (N, 4 or more), is out of 0..1 by more than what is clipped."""
    return np.any((boxes[:, :4] < -_SLACK) | (boxes[:, :4] > 1 + _SLACK), axis=1)


def _clean(proposals: NDArray[np.float64]) -> NDArray[np.float32]:
    """(M, 5) boxes XYXY and score -> float32, clipped to 0..1, without boxes that have no area."""
    result = proposals.astype(np.float32)
    result[:, :4] = result[:, :4].clip(0, 1)
    return result[(result[:, 0] < result[:, 2]) & (result[:, 1] < result[:, 3])]
