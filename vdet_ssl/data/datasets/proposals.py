"""Detected people: person boxes for the key frames of a data set (B.3), in the files that others publish them in."""

import logging
import pickle

import numpy as np
import pandas as pd

from vdet_ssl.errors import AvaFormatError
from vdet_ssl.structures.ava_csv import key_frame_id, line_of_row, read_boxes

_SLACK = 0.01  # detectors' boxes may leave the frame by this share of it; they are clipped

logger = logging.getLogger(__name__)


def add_proposals(records, path):
    """Add the detected people of a file (see `read_proposals`) to the records of `load_ava`, in place.

    A record gets the `proposal_fields` of its people, of whom there may be none.

    Raises:
        ValueError: as `read_proposals`, or the file has none of the key frames.
    """
    people = read_proposals(path)
    hits = 0
    for record in records:
        found = people.get(key_frame_id(record["video_id"], record["timestamp"]))
        hits += found is not None
        record |= proposal_fields(np.zeros((0, 5), np.float32) if found is None else found)
    if records and not hits:
        names = [f"{record['video_id']},{record['timestamp']}" for record in records[:3]]
        raise ValueError(
            f"{path} has people in none of the {len(records)} key frames of the data set, which are like {names}; the "
            f"file has (video id, microseconds) like {list(people)[:3]}"
        )
    logger.info(f"{path}: people in {hits} of {len(records)} key frames")


def proposal_fields(found):
    """Return the fields of a record that hold its people, float32 (M, 5): "proposal_boxes" and "proposal_scores"."""
    return {"proposal_boxes": found[:, :4], "proposal_scores": found[:, 4]}


def read_proposals(path):
    """Read detected people.

    Args:
        path: *.csv or *.csv.gz as PySlowFast's: video_id,timestamp,x1,y1,x2,y2,action_id or nothing,score; a box that
            has several rows, one for each action, counts once.  *.pkl as mmaction2's: dict "video_id,timestamp" ->
            array (M, 4) or (M, 5) of boxes XYXY in 0..1 and, where given, their score (else 1).
    Returns:
        dict, `key_frame_id` -> float32 (M, 5): XYXY in 0..1 and score.
    Raises:
        ValueError: the file is not one of these (the message says which line or key).
    """
    return _read_pickle(path) if path.endswith((".pkl", ".pickle")) else _read_csv(path)


def _read_csv(path):
    table = read_boxes(path)
    wrong = _leaves_frame(table.boxes)
    if wrong.any():
        raise AvaFormatError(path, line_of_row(path, int(wrong.argmax())), "the box is not within 0..1")
    rows = pd.DataFrame(np.column_stack([table.key, table.boxes, table.score]))
    rows = rows.drop_duplicates(subset=list(range(5))).sort_values(0, kind="stable").to_numpy()
    starts = np.searchsorted(rows[:, 0], np.arange(1, len(table.key_frames)))
    people = zip(table.key_frames, np.split(rows[:, 1:], starts), strict=True)
    return {key_frame_id(*frame): _clean(found) for frame, found in people}


def _read_pickle(path):
    try:
        with open(path, "rb") as f:
            content = dict(_ArrayUnpickler(f, encoding="latin1").load())  # latin1: files written by Python 2
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no pickle of a dict video_id,timestamp -> boxes: {error}") from None
    people = {}
    for key, found in content.items():
        try:
            people[key_frame_id(*key.split(","))] = _clean(_with_scores(found))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {key!r}: {error}") from None
    return people


def _with_scores(found):
    """Check what a pickle has for a key frame; return it as float64 (M, 5)."""
    found = np.array(found, np.float64)
    if not found.size:
        return np.zeros((0, 5))
    is_table = found.ndim == 2 and found.shape[1] in (4, 5) and np.isfinite(found).all()
    if not is_table or _leaves_frame(found).any():
        raise ValueError("boxes have to be an array (M, 4) or (M, 5) of x1, y1, x2, y2 in 0..1 and a score")
    return found if found.shape[1] == 5 else np.column_stack([found, np.ones(len(found))])


def _leaves_frame(boxes):
    """Whether each box XYXY, (N, 4 or more), is out of 0..1 by more than what is clipped."""
    return ((boxes[:, :4] < -_SLACK) | (boxes[:, :4] > 1 + _SLACK)).any(axis=1)


def _clean(found):
    """(M, 5) boxes XYXY and score -> float32, clipped to 0..1, without boxes that have no area."""
    found = found.astype(np.float32)
    found[:, :4] = found[:, :4].clip(0, 1)
    return found[(found[:, 0] < found[:, 2]) & (found[:, 1] < found[:, 3])]


_NUMPY_GLOBALS = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "scalar": np.float64(0).__reduce__()[0],
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays and numbers in Python's containers; refuses all else, which could run any code."""

    def find_class(self, module, name):
        if module.split(".")[0] == "numpy" and name in _NUMPY_GLOBALS:
            return _NUMPY_GLOBALS[name]
        if (module, name) == ("_codecs", "encode"):  # how protocols below 3 write bytes
            return lambda text, _: text.encode("latin1")
        if (module, name) == ("__builtin__", "bytes"):  # and no bytes
            return lambda: b""
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and only numpy arrays are read")
