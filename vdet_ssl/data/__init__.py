"""From files to samples: data sets, reading video, sampling and augmenting clips, loaders.

What is used most can be imported from here.  It is looked up when it is used: scripts that only write a video or look at
endings start without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdet_ssl.data.build import build_test_loader, build_train_loader, load_dataset, load_datasets
    from vdet_ssl.data.clips import ClipSpec
    from vdet_ssl.data.datasets import load_videos, register_ava_like, register_videos
    from vdet_ssl.data.mappers import KeyFrameMapper, VideoMapper
    from vdet_ssl.data.transforms import ClipAugmentation, ClipTransform
    from vdet_ssl.data.video import VideoInfo, VideoWriter, decode_clips, open_video, probe

_MODULES = {
    "build": ("build_test_loader", "build_train_loader", "load_dataset", "load_datasets"),
    "clips": ("ClipSpec",),
    "datasets": ("load_videos", "register_ava_like", "register_videos"),
    "mappers": ("KeyFrameMapper", "VideoMapper"),
    "transforms": ("ClipAugmentation", "ClipTransform"),
    "video": ("VideoInfo", "VideoWriter", "decode_clips", "open_video", "probe"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ClipAugmentation",
    "ClipSpec",
    "ClipTransform",
    "KeyFrameMapper",
    "VideoInfo",
    "VideoMapper",
    "VideoWriter",
    "build_test_loader",
    "build_train_loader",
    "decode_clips",
    "load_dataset",
    "load_datasets",
    "load_videos",
    "open_video",
    "probe",
    "register_ava_like",
    "register_videos",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
