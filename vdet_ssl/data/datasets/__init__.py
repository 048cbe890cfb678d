"""Data sets by name: those of the paper, and whatever DATASETS.TRAIN / TEST name by a path."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.utils.file_io import PathManager

from vdet_ssl.data.datasets.ava import register_ava_like
from vdet_ssl.data.datasets.builtin import register_all_ava
from vdet_ssl.data.datasets.videos import VideoList, load_videos, register_builtin_videos, register_videos
from vdet_ssl.errors import DataError

__all__ = [
    "VideoList",
    "dataset_kind",
    "dataset_metadata",
    "ensure_registered",
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


def _register_builtin(root):
    for name in _VIDEO_LISTS:
        folder, split = name.rsplit("_", 1)
        register_builtin_videos(name, os.path.join(root, folder, f"{split}.csv"))
    register_all_ava(root)


def ensure_registered(name):
    """Register an entry of DATASETS.TRAIN / TEST that is a path, under that path, and return it.

    `*.yaml` describes an AVA-like data set, `*.csv`, `*.txt`, `*.parquet`, `*.tar` and folders are lists of videos
    (see datasets/README.md); anything else has to be a registered name.

    Raises:
        DataError: neither registered nor a path.
    """
    if name in DatasetCatalog.list():
        return name
    if name.endswith((".yaml", ".yml")):
        register_ava_like(name, name)
    elif name.endswith((".csv", ".txt", ".parquet", ".tar")) or PathManager.isdir(name):
        register_videos(name, name)
    else:
        raise DataError(
            f'"{name}" in DATASETS.TRAIN or TEST is no registered data set, no folder and no file of a kind that can '
            f"be read (.csv, .txt, .parquet, .tar, .yaml). Registered are: {', '.join(DatasetCatalog.list())}"
        )
    return name


def dataset_metadata(name: str) -> Metadata:
    """Return the metadata of an entry of DATASETS.TRAIN / TEST."""
    return MetadataCatalog.get(ensure_registered(name))


def dataset_kind(name: str) -> str | None:
    """Return what records a data set has: "videos", "key_frames" or None where it does not say."""
    return dataset_metadata(name).get("kind")


_register_builtin(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
