"""AVA, and any data set in its formats: one record for each key frame, what people do in it and where it is found.

A data set is described by a yaml file (see `AvaDescription` and datasets/README.md); frame rate, range of key frames and
classes are part of that description.  Key frames are those that the annotations name, less the excluded ones, in
training and in evaluation alike: what the official evaluator counts.
"""

import dataclasses
import difflib
import functools
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from numpy.typing import NDArray

from vdet_ssl.config.yaml_files import compose, construct
from vdet_ssl.data.records import Record
from vdet_ssl.data.video.info import VIDEO_EXTENSIONS
from vdet_ssl.errors import AvaFormatError, DataError
from vdet_ssl.structures.ava_csv import clip_boxes, key_frame_id, line_of_row, read_annotations, read_excluded
from vdet_ssl.structures.ground_truth import find_wrong_box, records_of_table
from vdet_ssl.structures.label_map import read_label_map

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
    key_frames: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for field in ("annotations", "label_map", "excluded_timestamps", "videos", "frames"):
            path = getattr(self, field)
            if path is not None and not (isinstance(path, str) and "\0" not in path):
                raise ValueError(f"{field} is {path!r}; it has to be a path")
        if not (self.annotations and self.label_map):
            raise ValueError("it needs annotations and label_map: the csv of boxes and the list of actions")
        if (self.videos is None) == (self.frames is None):
            raise ValueError("it needs either videos or frames: the folder with the movies, or that with their frames")
        if self.frames is not None and not (_is_number(self.frame_rate) and self.frame_rate > 0):
            raise ValueError(f"frames need frame_rate: how many of them make a second (it is {self.frame_rate!r})")
        for field in ("videos_start_s", "frames_start_s"):
            if not _is_number(getattr(self, field)):
                raise ValueError(f"{field} is {getattr(self, field)!r}; it has to be a number of seconds")
        if self.key_frames is not None and not _is_range(self.key_frames):
            raise ValueError(
                f"key_frames are the first and the last timestamp, in seconds: [902, 1798], not {self.key_frames!r}"
            )

    def is_key_frame(self, timestamp_s: float) -> bool:
        return self.key_frames is None or self.key_frames[0] <= timestamp_s <= self.key_frames[1]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_range(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]


def read_description(path: str) -> AvaDescription:
    """Read an AvaDescription from yaml.

    Raises:
        DataError: says which file and what is wrong.
    """
    known = [field.name for field in dataclasses.fields(AvaDescription)]
    root = compose(path, DataError)
    if not isinstance(root, yaml.MappingNode):
        raise AvaFormatError(path, 1, f"expected keys and values; the keys are {', '.join(known)}")
    entries: dict[str, Any] = {}
    for key_node, value_node in root.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {known}"
            raise AvaFormatError(path, line, f"unknown key {key[:100]!r}; {hint}")
        if key in entries:
            raise AvaFormatError(path, line, f"{key} is set twice")
        try:
            entries[key] = construct(value_node)
        except (yaml.YAMLError, ValueError) as error:
            raise AvaFormatError(path, line, f"{key}: {' '.join(str(error).split())}") from None
    for key in ("annotations", "label_map", "excluded_timestamps", "videos", "frames"):
        if isinstance(entries.get(key), str):
            entries[key] = os.path.join(os.path.dirname(path), entries[key])
    try:
        return AvaDescription(**entries)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None


def register_ava_like(name: str, description_path: str) -> None:
    """Register the data set that a yaml file describes; metadata as in `register_ava`."""
    register_ava(name, read_description(description_path))


def register_ava(name: str, description: AvaDescription) -> None:
    """Register a data set in AVA's formats; its files need not exist yet.

    The metadata has kind "key_frames", `description`, and once `set_classes` has read them thing_classes and
    thing_dataset_id_to_contiguous_id (action id -> class).
    """
    DatasetCatalog.register(name, lambda: _load(name, description))
    MetadataCatalog.get(name).set(kind="key_frames", description=description)


def set_classes(name: str, description: AvaDescription) -> None:
    """Read the classes into the metadata, if they are not there yet."""
    if MetadataCatalog.get(name).get("thing_classes") is None:
        names = _read_label_map(description.label_map)
        contiguous = {action_id: i for i, action_id in enumerate(names)}
        MetadataCatalog.get(name).set(thing_classes=list(names.values()), thing_dataset_id_to_contiguous_id=contiguous)


def load_ava(description: AvaDescription) -> list[Record]:
    """Return the records of a data set, one for each key frame, in the annotations' order.

    Returns:
        records as `vdet_ssl.structures.ground_truth` describes them.
    Raises:
        AvaFormatError: file and line of a row that is wrong.
        DataError: movies, or folders of frames, are missing.
    """
    source = description.annotations
    table = read_annotations(source)
    check_boxes(source, table.boxes)
    table = dataclasses.replace(table, boxes=clip_boxes(table.boxes, source))
    excluded = read_excluded(description.excluded_timestamps) if description.excluded_timestamps else frozenset()
    every = records_of_table(table, list(_read_label_map(description.label_map)), source)
    in_range = [record for record in every if description.is_key_frame(record["timestamp_s"])]
    records = [r for r in in_range if key_frame_id(r["video_id"], r["timestamp"]) not in excluded]
    if not records:
        raise DataError(_nothing_left(description, every, len(in_range)))
    where = _find_sources({record["video_id"] for record in records}, description)
    logger.info(f"{source}: {len(records)} key frames; {len(every) - len(records)} are excluded or out of range")
    return [{**record, **where[record["video_id"]]} for record in records]


def _nothing_left(description: AvaDescription, every: Sequence[Record], num_in_range: int) -> str:
    """Say why a data set has no key frame."""
    if not every:
        return f"{description.annotations} names no key frame: it is empty"
    message = f"{description.annotations}: none of its {len(every)} key frames is left"
    if num_in_range:
        return f"{message}; {num_in_range} are excluded by {description.excluded_timestamps}"
    times = [record["timestamp_s"] for record in every]
    return (
        f"{message}: their timestamps go from {min(times):g} to {max(times):g} s, the data set's key_frames are "
        f"{list(description.key_frames or [])}; change or remove that line of its description"
    )


def check_boxes(path: str, boxes: NDArray) -> None:
    """Raise AvaFormatError at the first box XYXY of a csv file that leaves 0..1, but for what is clipped, or has no area."""
    wrong = find_wrong_box(boxes)
    if wrong:
        row, reason = wrong
        raise AvaFormatError(path, line_of_row(path, row), reason)


_read_label_map = functools.lru_cache(maxsize=16)(read_label_map)  # data sets share it


def _load(name: str, description: AvaDescription) -> list[Record]:
    set_classes(name, description)
    return load_ava(description)


def _find_sources(video_ids: set[str], description: AvaDescription) -> dict[str, dict[str, Any]]:
    """Return for each video id where it is: {"file_name", "start_s"} and, for extracted frames, "frame_rate"."""
    folder = description.videos or description.frames or ""
    source = {"start_s": float(description.videos_start_s)}
    if description.frames and description.frame_rate:
        source = {"start_s": float(description.frames_start_s), "frame_rate": float(description.frame_rate)}
    found: dict[str, str] = {}
    for entry in sorted(os.listdir(folder)):
        video_id, extension = (entry, "") if description.frames else os.path.splitext(entry)
        if video_id in video_ids and (description.frames or extension.lower() in VIDEO_EXTENSIONS):
            if video_id in found:
                raise DataError(f"{folder}: there are several movies of {video_id}: {entry} and {found[video_id]}")
            found[video_id] = entry
    missing = sorted(video_ids - set(found))
    if missing:
        what = "folders of frames" if description.frames else f"movies (<video_id>{{{','.join(VIDEO_EXTENSIONS)}}})"
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"{description.annotations} names {len(video_ids)} videos, {len(missing)} of which are not among the {what} "
            f"in {os.path.abspath(folder)}: {some}"
        )
    return {video_id: {"file_name": os.path.join(folder, entry), **source} for video_id, entry in found.items()}
