"""AVA, and any data set in its formats: one record for each key frame, what people do in it and where it is found.

A data set is described by a yaml file (see `AvaDescription` and datasets/README.md); frame rate, range of key frames and
classes are part of that description.  Key frames are those that the annotations name, less the excluded ones, in
training and in evaluation alike: what the official evaluator counts.
"""

import difflib
import logging
import os
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from vdet_ssl.data.video.info import VIDEO_EXTENSIONS
from vdet_ssl.errors import AvaFormatError
from vdet_ssl.structures.ava_csv import key_frame_id, line_of_row, read_boxes, read_excluded, read_label_map

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AvaDescription:
    """What a data set consists of; the keys of its yaml file, where paths are relative to the file's folder.

    Attributes:
        annotations: csv without header: video_id,timestamp,x1,y1,x2,y2,action_id,person_id; boxes XYXY in 0..1.
        label_map: pbtxt of the actions.
        excluded_timestamps: csv of video_id,timestamp to leave out.
        videos: folder of movies <video_id>.<extension>.
        videos_start_s: timestamp of a movie's first frame, in seconds (of AVA's movies cut to 15 minutes: 900).
        frames: instead of `videos`, folder of folders <video_id> of extracted frames <video_id>_000001.jpg ...
        frames_start_s: timestamp of the first extracted frame, in seconds.
        frame_rate: extracted frames a second.
        key_frames: timestamps of the first and the last key frame to use, in seconds, inclusive.
    """

    annotations: str = ""
    label_map: str = ""
    excluded_timestamps: str | None = None
    videos: str | None = None
    videos_start_s: float = 0.0
    frames: str | None = None
    frames_start_s: float = 0.0
    frame_rate: float | None = None
    key_frames: tuple | None = None

    def __post_init__(self):
        if not (self.annotations and self.label_map):
            raise ValueError("it needs annotations and label_map: the csv of boxes and the list of actions")
        if (self.videos is None) == (self.frames is None):
            raise ValueError("it needs either videos or frames: the folder with the movies, or that with their frames")
        if self.frames is not None and not (isinstance(self.frame_rate, (int, float)) and self.frame_rate > 0):
            raise ValueError(f"frames need frame_rate: how many of them make a second (it is {self.frame_rate})")
        if self.key_frames is not None and len(self.key_frames) != 2:
            raise ValueError("key_frames are the first and the last timestamp, in seconds: [902, 1798]")

    def is_key_frame(self, timestamp_s):
        return self.key_frames is None or self.key_frames[0] <= timestamp_s <= self.key_frames[1]


def read_description(path):
    """Read an AvaDescription from yaml; ValueError says which file and what is wrong."""
    with open(path, encoding="utf-8") as f:
        entries = yaml.safe_load(f)
    known = [field.name for field in fields(AvaDescription)]
    if not isinstance(entries, dict):
        raise AvaFormatError(path, 1, f"expected keys and values; the keys are {', '.join(known)}")
    for key in set(entries) - set(known):
        near = difflib.get_close_matches(str(key), known, n=1)
        raise ValueError(f"{path}: unknown key {key!r}; " + (f"did you mean {near[0]}?" if near else f"known: {known}"))
    for key in ("annotations", "label_map", "excluded_timestamps", "videos", "frames"):
        if entries.get(key) is not None:
            entries[key] = os.path.join(os.path.dirname(path), entries[key])
    try:
        return AvaDescription(**entries)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def register_ava_like(name, description_path):
    """Register the data set that a yaml file describes; metadata as in `register_ava`."""
    description = read_description(description_path)
    register_ava(name, description)
    _set_classes(name, description)


def register_ava(name, description):
    """Register a data set in AVA's formats; its files need not exist yet.

    The metadata has kind "key_frames", `description`, and once it is loaded thing_classes and
    thing_dataset_id_to_contiguous_id (action id -> class).
    """
    DatasetCatalog.register(name, lambda: _load(name, description))
    MetadataCatalog.get(name).set(kind="key_frames", description=description)


def load_ava(description):
    """Return the records of a data set, one for each key frame, in the annotations' order.

    A record is {"video_id", "timestamp": as in the annotations, "timestamp_s": float, "file_name": movie or folder of
    frames, "start_s": timestamp of its first frame, "frame_rate": of extracted frames only, "boxes": float32 (N, 4)
    XYXY in 0..1, "classes": bool (N, number of classes)}.

    Raises:
        AvaFormatError: file and line of a row that is wrong.
        FileNotFoundError: movies, or folders of frames, are missing.
    """
    table = read_boxes(description.annotations, score="person_id")
    check_boxes(description.annotations, table.boxes)
    table = table.take(np.argsort(table.key, kind="stable"))
    boxes, keys, classes = _merge_labels(table, read_label_map(description.label_map), description.annotations)
    excluded = read_excluded(description.excluded_timestamps) if description.excluded_timestamps else set()
    wanted = [
        description.is_key_frame(float(timestamp)) and key_frame_id(video_id, timestamp) not in excluded
        for video_id, timestamp in table.key_frames
    ]
    sources = _find_sources(
        {frame[0] for frame, keep in zip(table.key_frames, wanted, strict=True) if keep}, description
    )
    start = np.searchsorted(keys, np.arange(len(table.key_frames) + 1))
    records = []
    for i, (video_id, timestamp) in enumerate(table.key_frames):
        if wanted[i]:
            own = slice(start[i], start[i + 1])
            record = {"video_id": video_id, "timestamp": timestamp, "timestamp_s": float(timestamp)}
            records.append({**record, **sources[video_id], "boxes": boxes[own], "classes": classes[own]})
    left_out = len(wanted) - len(records)
    logger.info(f"{description.annotations}: {len(records)} key frames; {left_out} are excluded or out of range")
    return records


def check_boxes(path, boxes):
    """Raise AvaFormatError at the first box XYXY of a csv file that leaves 0..1 or has no area."""
    inside = (boxes >= 0).all(axis=1) & (boxes <= 1).all(axis=1)
    wrong = ~(inside & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if wrong.any():
        row = int(wrong.argmax())
        box = ", ".join(f"{x:g}" for x in boxes[row])
        raise AvaFormatError(
            path, line_of_row(path, row), f"box x1, y1, x2, y2 = {box} is not 0 <= x1 < x2 <= 1 (or y)"
        )


def _load(name, description):
    _set_classes(name, description)
    return load_ava(description)


def _set_classes(name, description):
    names = read_label_map(description.label_map)
    contiguous = {action_id: i for i, action_id in enumerate(names)}
    MetadataCatalog.get(name).set(thing_classes=list(names.values()), thing_dataset_id_to_contiguous_id=contiguous)


def _merge_labels(table, names, path):
    """Merge the rows of a box: return float32 boxes (N, 4), their keys (N,) and bool classes (N, number of classes)."""
    frame = pd.DataFrame(table.boxes, columns=["x1", "y1", "x2", "y2"]).assign(key=table.key)
    box = frame.groupby(list(frame.columns), sort=False).ngroup().to_numpy()
    first = np.flatnonzero(~pd.Series(box).duplicated())
    label = pd.Index(list(names)).get_indexer(table.action_id)
    classes = np.zeros((len(first), len(names)), bool)
    classes[box[label >= 0], label[label >= 0]] = True
    if (label < 0).any():
        ids = np.unique(table.action_id[label < 0]).tolist()
        logger.warning(
            f"{path}: {(label < 0).sum()} rows have actions that are not in the list ({ids}): boxes are kept"
        )
    return table.boxes[first].astype(np.float32), table.key[first], classes


def _find_sources(video_ids, description):
    """Return for each video id where it is: {"file_name", "start_s"} and, for extracted frames, "frame_rate"."""
    folder = description.videos or description.frames
    start_s = description.frames_start_s if description.frames else description.videos_start_s
    source = {"start_s": float(start_s)} | ({"frame_rate": float(description.frame_rate)} if description.frames else {})
    found = {}
    for entry in sorted(os.listdir(folder)):
        video_id, extension = (entry, "") if description.frames else os.path.splitext(entry)
        if video_id in video_ids and (description.frames or extension.lower() in VIDEO_EXTENSIONS):
            if video_id in found:
                raise ValueError(f"{folder}: there are several movies of {video_id}: {entry} and {found[video_id]}")
            found[video_id] = entry
    missing = sorted(video_ids - set(found))
    if missing:
        what = "folders of frames" if description.frames else f"movies (<video_id>{{{','.join(VIDEO_EXTENSIONS)}}})"
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{description.annotations} names {len(video_ids)} videos, {len(missing)} of which are not among the {what} "
            f"in {os.path.abspath(folder)}: {some}"
        )
    return {video_id: {"file_name": os.path.join(folder, entry), **source} for video_id, entry in found.items()}
