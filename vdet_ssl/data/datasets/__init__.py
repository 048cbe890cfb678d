"""Data sets by name: those of the paper, and whatever DATASETS.TRAIN / TEST name by a path."""

import contextlib
import os
from collections.abc import Iterator, Mapping

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.utils.file_io import PathManager

from vdet_ssl.data.datasets.ava import register_ava_like, set_classes
from vdet_ssl.data.datasets.builtin import register_all_ava
from vdet_ssl.data.datasets.videos import VideoList, load_videos, register_builtin_videos, register_videos
from vdet_ssl.data.records import Records, check_video_records
from vdet_ssl.errors import DataError
from vdet_ssl.structures.ground_truth import check_records

__all__ = [
    "VideoList",
    "action_names",
    "dataset_kind",
    "dataset_metadata",
    "ensure_registered",
    "load_records",
    "load_videos",
    "register_ava_like",
    "register_videos",
]

# Lists of videos of sections 4 and A.1: kinetics400_train is <DETECTRON2_DATASETS>/kinetics400/train.csv, or train.parquet
# where there is such a manifest, and so on.
# The Instagram sets (Table 1, Figure 4) are not public: their names stand for lists of one's own.
_IG_SIZES = ("128k", "240k", "512k", "1m")
_VIDEO_LISTS = [
    *(f"kinetics{classes}_{split}" for classes in (400, 600, 700) for split in ("train", "val")),
    *(f"ig_{kind}_{size}_train" for kind in ("curated", "curated_unbalanced", "uncurated") for size in _IG_SIZES),
    "ig_uncurated_short_1m_train",
    "web_uncurated_train",
]


def _register_builtin(root: str) -> None:
    for name in _VIDEO_LISTS:
        folder, split = name.rsplit("_", 1)
        register_builtin_videos(name, os.path.join(root, folder, f"{split}.csv"))
    register_all_ava(root)


def ensure_registered(name: str) -> str:
    """Register an entry of DATASETS.TRAIN / TEST that is a path, under that path, and return it.

    `*.yaml` describes an AVA-like data set, `*.csv`, `*.txt`, `*.parquet`, `*.tar` and folders are lists of videos
    (see datasets/README.md); anything else has to be a registered name.

    Raises:
        DataError: neither registered nor a path.
    """
    if name in DatasetCatalog.list():
        return name
    if name.endswith((".yaml", ".yml")):
        with _missing_files_named(name):
            register_ava_like(name, name)
    elif name.endswith((".csv", ".txt", ".parquet", ".tar")) or PathManager.isdir(name):
        register_videos(name, name)
    else:
        raise DataError(
            f'"{name}" in DATASETS.TRAIN or TEST is not a registered data set, not a folder and not a file of a kind that '
            f"can be read (.csv, .txt, .parquet, .tar, .yaml). Registered are: {', '.join(_own_names())}"
        )
    return name


def dataset_metadata(name: str) -> Metadata:
    """Return the metadata of an entry of DATASETS.TRAIN / TEST, with its classes where it has any.

    Raises:
        DataError: there is no such data set, or its list of classes is missing or wrong.
    """
    metadata = MetadataCatalog.get(ensure_registered(name))
    if "description" in metadata.as_dict():
        with _missing_files_named(name):
            set_classes(name, metadata.description)
    return metadata


def dataset_kind(name: str) -> str | None:
    """Return what records a data set has: "videos", "key_frames" or None where its metadata does not say (`kind`)."""
    return MetadataCatalog.get(ensure_registered(name)).get("kind")


def action_names(name: str) -> dict[int, str]:
    """Return the actions of a data set of key frames, action id -> name, in the order of the classes.

    The names are `thing_classes` of its metadata, the ids those of `thing_dataset_id_to_contiguous_id` or, without it,
    1 to the number of classes.

    Raises:
        DataError: the metadata has no such names, or ids that do not fit them.
    """
    metadata = dataset_metadata(name)
    names = metadata.get("thing_classes")
    if not names or len(set(names)) < len(names):
        raise DataError(f"{name} needs classes, each once: MetadataCatalog.get({name!r}).set(thing_classes=[...])")
    class_of = metadata.get("thing_dataset_id_to_contiguous_id") or {i + 1: i for i in range(len(names))}
    if sorted(class_of.values()) != list(range(len(names))):
        raise DataError(
            f"{name}: thing_dataset_id_to_contiguous_id has to give the classes 0 to {len(names) - 1}, each once"
        )
    return {action_id: names[i] for action_id, i in sorted(class_of.items(), key=lambda item: item[1])}


def load_records(name: str) -> Records:
    """Return the records of a data set, those of key frames checked and in one form (see `structures.ground_truth`).

    A list of records of videos is checked, too; a `VideoList` has been when its file was read.  Key frames are a data set's where its metadata says so, or where it does not say and the records have "boxes".

    Raises:
        DataError: a file or a record is missing or wrong.
    """
    with _missing_files_named(name):
        records = DatasetCatalog.get(ensure_registered(name))
    if not hasattr(records, "__getitem__") or isinstance(records, Mapping | str):
        raise DataError(f"{name}: its records are a {type(records).__name__}; they have to be a list of dicts")
    if len(records) == 0:
        raise DataError(f"{name} has no records")
    kind = dataset_kind(name)
    if kind == "key_frames" or (kind is None and isinstance(records[0], Mapping) and "boxes" in records[0]):
        return check_records(records, len(action_names(name)), name)
    if kind in (None, "videos") and isinstance(records, list | tuple):
        check_video_records(records, name)
    return records


@contextlib.contextmanager
def _missing_files_named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{name} in DATASETS.TRAIN or TEST: {error.filename}: {error.strerror}") from error


def _own_names() -> list[str]:
    """Return what is registered, without detectron2's own data sets, which are of images."""
    return [name for name in DatasetCatalog.list() if MetadataCatalog.get(name).get("evaluator_type") is None]


_register_builtin(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
