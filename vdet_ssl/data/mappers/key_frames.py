"""From the record of a key frame to the clip around it and the boxes in it (B.3)."""

import os
import re
from typing import Any, cast

import cv2
import numpy as np
import torch
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray

from vdet_ssl.config import CfgNode
from vdet_ssl.data.clips import ClipSpec
from vdet_ssl.data.mappers.decoder import Decoder
from vdet_ssl.data.records import Record
from vdet_ssl.data.transforms import ClipAugmentation, ClipTransform
from vdet_ssl.data.transforms.color import Frames
from vdet_ssl.data.video.clip_buffer import Clip
from vdet_ssl.data.video.info import TIME_TOLERANCE_S
from vdet_ssl.errors import VideoError


class KeyFrameMapper:
    """Reads one clip centred at a key frame, from a movie or from extracted frames, and augments it with its boxes.

    Args:
        is_train: give the ground truth.
        clip: what a clip is.
        augmentation: draws what happens to clip and boxes.
        decoder: opens the movies.
    """

    @configurable
    def __init__(self, *, is_train: bool, clip: ClipSpec, augmentation: ClipAugmentation, decoder: Decoder) -> None:
        self.is_train = is_train
        self.clip = clip
        self.augmentation = augmentation
        self.decoder = decoder

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict[str, Any]:
        build = ClipAugmentation.for_training if is_train else ClipAugmentation.for_whole_frames
        return {
            "is_train": is_train,
            "clip": ClipSpec.from_cfg(cfg, spacing="stride"),  # around a key frame there is no other
            "augmentation": build(cfg),
            "decoder": Decoder.from_cfg(cfg),
        }

    def __call__(self, record: Record, rng: np.random.Generator) -> dict[str, Any]:
        """Return the sample of one key frame.

        Args:
            record: see `datasets.ava.load_ava` and `datasets.proposals.add_proposals`.
            rng: the sample follows from it and the record alone.
        Returns:
            dict: "clip": uint8 tensor (T, H, W, 3) RGB, "height", "width": int, of the original frame, "video_id",
            "timestamp", "timestamp_s", in training "instances" with gt_boxes (Boxes XYXY, pixels of the clip) and
            gt_classes (float32 (N, number of classes), 0 or 1), and "proposals" with proposal_boxes and scores (M,)
            if the record has them.  Boxes without area in the clip are left out.
        Raises:
            VideoError: the movie or a frame cannot be read, or does not reach to the key frame.
        """
        clip = self._read_frames(record) if "frame_rate" in record else self._read_movie(record)
        height, width = clip.shape[1:3]
        transform = self.augmentation.get_transform(rng, height, width)
        frames = transform.apply_clip(clip)
        sample = {key: record[key] for key in ("video_id", "timestamp", "timestamp_s")}
        sample |= {"clip": torch.from_numpy(frames), "height": height, "width": width}
        if self.is_train:
            boxes, kept = _boxes_in_clip(record["boxes"].astype(np.float32), transform, height, width)
            classes = torch.from_numpy(record["classes"].astype(np.float32))[kept]
            sample["instances"] = Instances(frames.shape[1:3], gt_boxes=boxes, gt_classes=classes)
        if "proposal_boxes" in record:
            boxes, kept = _boxes_in_clip(record["proposal_boxes"], transform, height, width)
            scores = torch.from_numpy(record["proposal_scores"])[kept]
            sample["proposals"] = Instances(frames.shape[1:3], proposal_boxes=boxes, scores=scores)
        return sample

    def _read_movie(self, record: Record) -> Clip:
        """The key frame has to be in the movie; of the clip around it, what is outside is the first or the last frame."""
        time_s = record["timestamp_s"] - record["start_s"]
        with self.decoder.open(record["file_name"]) as video:
            if not 0 <= time_s <= video.duration_s + TIME_TOLERANCE_S:
                raise _outside(record, video.duration_s)
            return video.decode_clips([self.clip.times_around_s(time_s, video.fps)], "yuv")[0]

    def _read_frames(self, record: Record) -> Frames:
        """Frames are files; as in a movie, times before the first one and after the last one get these."""
        folder, rate = record["file_name"], record["frame_rate"]
        time_s = record["timestamp_s"] - record["start_s"]
        times_s = self.clip.times_around_s(time_s, rate)
        numbers = 1 + np.floor((times_s + TIME_TOLERANCE_S) * rate).astype(int).clip(0)
        path = os.path.join(folder, record["video_id"] + "_{:06d}.jpg")
        if time_s < 0 or not os.path.exists(path.format(numbers.max())):
            last = _last_number(folder)
            if not 0 <= time_s <= last / rate:
                raise _outside(record, last / rate)
            numbers = numbers.clip(max=last)
        frames = {number: _read_image(path.format(number)) for number in np.unique(numbers)}
        if len({frame.shape for frame in frames.values()}) > 1:
            raise VideoError(folder, f"the frames around {record['timestamp']} s are not of one size")
        return np.stack([frames[number] for number in numbers])


def _outside(record: Record, duration_s: float) -> VideoError:
    start_s, end_s = record["start_s"], record["start_s"] + duration_s
    reason = f"has a key frame at {record['timestamp']} s, but reaches from {start_s:.2f} to {end_s:.2f} s"
    return VideoError(record["file_name"], reason)


def _last_number(folder: str) -> int:
    """Return the number of the last extracted frame, <video_id>_<number>.jpg; 0 if there is none."""
    matches = (re.search(r"_(\d+)\.jpg$", name) for name in os.listdir(folder))
    return max((int(match[1]) for match in matches if match), default=0)


def _read_image(path: str) -> Frames:
    image = cv2.imread(path)
    if image is None:
        raise VideoError(path, "the frame is missing or is not an image")
    return cast(Frames, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _boxes_in_clip(
    boxes: NDArray[np.float32], transform: ClipTransform, height: int, width: int
) -> tuple[Boxes, torch.Tensor]:
    """Move boxes with the pixels.

    Args:
        boxes: float32 array (N, 4), XYXY in 0..1.
        transform: of the clip.
        height, width: of the original frame.
    Returns:
        Boxes (XYXY, pixels of the result), clipped; and bool (N,), which ones these are: those with an area.
    """
    in_pixels = boxes.astype(np.float64) * [width, height, width, height]
    moved = transform.apply_box(in_pixels)
    in_clip = Boxes(torch.from_numpy(moved.astype(np.float32)).reshape(-1, 4))
    in_clip.clip((transform.crop.height, transform.crop.width))
    kept = in_clip.nonempty()
    return in_clip[kept], kept
