"""The data sets of the paper that have a fixed place below DETECTRON2_DATASETS (see datasets/README.md)."""

import os
from typing import Any

from vdet_ssl.data.datasets.ava import AvaDescription, register_ava

_AVA_LISTS = {"v2.1": "v2.1_for_activitynet_2018", "v2.2": "v2.2_for_activitynet_2019"}
_AVA_KEY_FRAMES = (902, 1798)


def register_all_ava(root: str) -> None:
    """Register ava_v2.1_train, ava_v2.2_val, ... (whole movies) and ava_v2.2_val_frames, ... (frames from 900 s on)."""
    for version, label_map in _AVA_LISTS.items():
        for split in ("train", "val"):
            names = {
                "annotations": f"ava_{split}_{version}.csv",
                "excluded_timestamps": f"ava_{split}_excluded_timestamps_{version}.csv",
                "label_map": f"ava_action_list_{label_map}.pbtxt",
            }
            files: dict[str, Any] = {k: os.path.join(root, "ava", "annotations", v) for k, v in names.items()}
            name = f"ava_{version}_{split}"
            videos, frames = (os.path.join(root, "ava", folder) for folder in ("videos", "frames"))
            register_ava(name, AvaDescription(**files, key_frames=_AVA_KEY_FRAMES, videos=videos))
            register_ava(
                f"{name}_frames",
                AvaDescription(
                    **files, key_frames=_AVA_KEY_FRAMES, frames=frames, frames_start_s=900.0, frame_rate=30.0
                ),
            )
