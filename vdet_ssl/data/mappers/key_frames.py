"""From the record of a key frame to the clip around it and the boxes in it (B.3)."""

import os
import re

import cv2
import numpy as np
import torch
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances
from fvcore.transforms.transform import HFlipTransform

from vdet_ssl.data.clips import centered_frame_times
from vdet_ssl.data.transforms import ClipAugmentation, crop_clip, recolor_clip
from vdet_ssl.data.video.info import TIME_TOLERANCE_S
from vdet_ssl.data.video.reader import open_video
from vdet_ssl.errors import VideoError


class ActionDetectionMapper:
    """Reads one clip centred at a key frame, from a movie or from extracted frames, and augments it with its boxes.

    Args:
        is_train: augment, and give the ground truth.
        num_frames, sampling_rate: T, and tau in raw frames.
        frame_rate: raw frames a second; 0: the video's own.
        augmentation: ClipAugmentation.
        decoder, decode_timeout_s: as in `decode.open_video`.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train,
        num_frames,
        sampling_rate,
        frame_rate,
        augmentation,
        decoder,
        decode_timeout_s,
    ):
        self.is_train = is_train
        self.num_frames = num_frames
        self.sampling_rate = sampling_rate
        self.frame_rate = frame_rate
        self.augmentation = augmentation
        self.decoder = decoder
        self.decode_timeout_s = decode_timeout_s

    @classmethod
    def from_config(cls, cfg, is_train):
        whole_frames = {} if is_train else {"crop_type": "none"}
        return {
            "is_train": is_train,
            "num_frames": cfg.INPUT.NUM_FRAMES,
            "sampling_rate": cfg.INPUT.SAMPLING_RATE,
            "frame_rate": cfg.INPUT.FRAME_RATE,
            "augmentation": ClipAugmentation(cfg, is_train, **whole_frames),
            "decoder": cfg.INPUT.DECODER,
            "decode_timeout_s": cfg.DATALOADER.DECODE_TIMEOUT_S,
        }

    def __call__(self, record, rng):
        """Return the sample of one key frame.

        Args:
            record: see `datasets.ava.load_ava` and `datasets.ava_proposals.add_proposals`.
            rng: numpy.random.Generator; the sample follows from it and the record alone.
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
        augmentation = self.augmentation.draw(rng, height, width)
        frames = recolor_clip(crop_clip(clip, augmentation.crop), augmentation)
        sample = {key: record[key] for key in ("video_id", "timestamp", "timestamp_s")}
        sample |= {"clip": torch.from_numpy(frames), "height": height, "width": width}
        if self.is_train:
            boxes, kept = _transform_boxes(record["boxes"], augmentation, height, width)
            classes = torch.from_numpy(record["classes"].astype(np.float32))[kept]
            sample["instances"] = Instances(frames.shape[1:3], gt_boxes=boxes, gt_classes=classes)
        if "proposal_boxes" in record:
            boxes, kept = _transform_boxes(record["proposal_boxes"], augmentation, height, width)
            scores = torch.from_numpy(record["proposal_scores"])[kept]
            sample["proposals"] = Instances(frames.shape[1:3], proposal_boxes=boxes, scores=scores)
        return sample

    def _times(self, time_s, frame_rate):
        return centered_frame_times(
            time_s,
            num_frames=self.num_frames,
            sampling_rate=self.sampling_rate,
            frame_rate=self.frame_rate or frame_rate,
        )

    def _read_movie(self, record):
        path, time_s = record["file_name"], record["timestamp_s"] - record["start_s"]
        with open_video(path, backend=self.decoder, timeout_s=self.decode_timeout_s) as video:
            if not 0 <= time_s <= video.duration_s + TIME_TOLERANCE_S:
                _fail_outside(record, video.duration_s)
            times_s = self._times(time_s, None if self.frame_rate else video.fps)
            return video.decode_clips([times_s], "yuv")[0]

    def _read_frames(self, record):
        """Frames are files; as in a movie, times before the first one and after the last one get these."""
        folder, rate = record["file_name"], record["frame_rate"]
        time_s = record["timestamp_s"] - record["start_s"]
        numbers = 1 + np.floor((self._times(time_s, rate) + TIME_TOLERANCE_S) * rate).astype(int).clip(0)
        path = os.path.join(folder, record["video_id"] + "_{:06d}.jpg")
        if time_s < 0 or not os.path.exists(path.format(numbers.max())):
            last = _last_number(folder)
            if not 0 <= time_s <= last / rate:
                _fail_outside(record, last / rate)
            numbers = numbers.clip(max=last)
        frames = {number: _read_image(path.format(number)) for number in np.unique(numbers)}
        if len({frame.shape for frame in frames.values()}) > 1:
            raise VideoError(folder, f"the frames around {record['timestamp']} s are not of one size")
        return np.stack([frames[number] for number in numbers])


def _fail_outside(record, duration_s):
    start_s, end_s = record["start_s"], record["start_s"] + duration_s
    reason = f"has a key frame at {record['timestamp']} s, but reaches from {start_s:.2f} to {end_s:.2f} s"
    raise VideoError(record["file_name"], reason)


def _last_number(folder):
    """Return the number of the last extracted frame, <video_id>_<number>.jpg; 0 if there is none."""
    matches = (re.search(r"_(\d+)\.jpg$", name) for name in os.listdir(folder))
    return max((int(match[1]) for match in matches if match), default=0)


def _read_image(path):
    image = cv2.imread(path)
    if image is None:
        raise VideoError(path, "the frame is missing or is no image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _transform_boxes(boxes, augmentation, height, width):
    """Move boxes with the pixels.

    Args:
        boxes: float32 array (N, 4), XYXY in 0..1.
        augmentation: Augmentation of the clip.
        height, width: of the original frame.
    Returns:
        Boxes (XYXY, pixels of the result), clipped; and bool (N,), which ones these are: those with an area.
    """
    crop = augmentation.crop
    boxes = crop.apply_box(boxes * np.array([width, height, width, height], np.float64))
    if augmentation.flip:
        boxes = HFlipTransform(crop.width).apply_box(boxes)
    boxes = Boxes(torch.from_numpy(boxes.astype(np.float32)).reshape(-1, 4))
    boxes.clip((crop.height, crop.width))
    kept = boxes.nonempty()
    return boxes[kept], kept
