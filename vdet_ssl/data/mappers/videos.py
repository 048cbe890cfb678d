"""From the record of a video to clips of it: for pre-training (section 3.1, B.1), for features, for classification."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vdet_ssl.config import CfgNode
from vdet_ssl.data.clips import ClipSampler, ClipSpec, RandomClips, SegmentClip, Times, UniformClips
from vdet_ssl.data.mappers.decoder import Decoder
from vdet_ssl.data.records import Record
from vdet_ssl.data.transforms import ClipAugmentation
from vdet_ssl.data.video.clip_buffer import Clip
from vdet_ssl.errors import ConfigError


class VideoMapper:
    """Draws when the clips of a video are, decodes them in one pass over the file and augments each.

    Args:
        sampler: says when the clips are.
        augmentations: each clip is given as many times as there are augmentations, once by each: two crops of one clip,
            or the spatial crops of a test view.
        decoder: opens the videos.
        only_crop: leave the rest of the augmentation to `augment_batch`.
    """

    def __init__(
        self,
        *,
        sampler: ClipSampler,
        augmentations: Sequence[ClipAugmentation],
        decoder: Decoder,
        only_crop: bool = False,
    ) -> None:
        self.sampler = sampler
        self.augmentations = tuple(augmentations)
        self.decoder = decoder
        self.only_crop = only_crop

    @classmethod
    def for_pretraining(cls, cfg: CfgNode) -> "VideoMapper":
        """Return the mapper to rho random clips; for rho = 1 to two crops of one clip."""
        num_clips = cfg.INPUT.NUM_CLIPS
        sampler = RandomClips(ClipSpec.from_cfg(cfg), num_clips, cfg.INPUT.T_MAX_S, cfg.INPUT.FRAME_RATE_JITTER)
        return cls(
            sampler=sampler,
            augmentations=[_training_augmentation(cfg)] * (2 if num_clips == 1 else 1),
            decoder=Decoder.from_cfg(cfg),
            only_crop=cfg.INPUT.AUGMENTATION_DEVICE == "model",
        )

    @classmethod
    def for_features(cls, cfg: CfgNode) -> "VideoMapper":
        """Return the mapper to one clip in the middle of the video and of the frame, with nothing random."""
        return cls.for_classification(cfg, is_train=False)

    @classmethod
    def for_classification(
        cls,
        cfg: CfgNode,
        is_train: bool,
        *,
        num_test_clips: int = 1,
        num_test_crops: int = 1,
        by_segments: bool = False,
    ) -> "VideoMapper":
        """Return the mapper to one random clip, in training; else to views, crop by crop of clip after clip.

        Args:
            num_test_clips: views in time, spread evenly over the video; one is in the middle.
            num_test_crops: views of each clip in space, spread evenly along the longer side; one is in the middle.
            by_segments: instead, the one clip has a frame of each of T equal segments of the video (Something-Something).
        """
        sampler: ClipSampler
        if by_segments and num_test_clips != 1:
            raise ValueError("there is only one clip of segments")
        if by_segments:
            sampler = SegmentClip(cfg.INPUT.NUM_FRAMES, cfg.INPUT.FRAME_RATE, is_random=is_train)
        elif is_train:
            sampler = RandomClips(ClipSpec.from_cfg(cfg), frame_rate_jitter=cfg.INPUT.FRAME_RATE_JITTER)
        else:
            sampler = UniformClips(ClipSpec.from_cfg(cfg), num_test_clips)
        views = ClipAugmentation.for_views
        augmentations = [_training_augmentation(cfg)] if is_train else views(cfg, num_test_crops)
        return cls(sampler=sampler, augmentations=augmentations, decoder=Decoder.from_cfg(cfg))

    def __call__(self, record: Record, rng: np.random.Generator) -> dict[str, Any]:
        """Return the sample of one video.

        Args:
            record: {"file_name", "video_id", and optionally "duration_s", "label"}.
            rng: the sample follows from it and the record alone.
        Returns:
            dict: "clips": list of uint8 tensors (T, H, W, 3) RGB, "start_times_s": list of float, "video_id",
            "file_name", "label" if the record has one, and if `only_crop` "transforms": list of `ClipTransform` of which
            only the crop is done.
        Raises:
            VideoError: if the file cannot be decoded.
        """
        times_s, clips = self.decode(record, rng)
        sample: dict[str, Any] = {key: record[key] for key in ("file_name", "video_id", "label") if key in record}
        starts_s = [float(times[0]) for times in times_s for _ in self.augmentations]
        return {**sample, "start_times_s": starts_s, **self.augment(clips, rng)}

    def decode(self, record: Record, rng: np.random.Generator) -> tuple[list[Times], list[Clip]]:
        """Draw when the clips are and decode them; return the times of their frames, and the clips.

        Frames of a clip that is longer than its video, and those after an end that comes earlier than the record has it,
        are the last one.
        """
        with self.decoder.open(record["file_name"]) as video:
            times_s = self.sampler(rng, record.get("duration_s") or video.duration_s, video.fps)
            return times_s, video.decode_clips(times_s, "yuv")

    def augment(self, clips: Sequence[Clip], rng: np.random.Generator) -> dict[str, Any]:
        """Draw what happens to each clip and do it, or only crop; return that part of the sample."""
        sources = [(clip, augmentation) for clip in clips for augmentation in self.augmentations]
        drawn = [(clip, augmentation.get_transform(rng, *clip.shape[1:3])) for clip, augmentation in sources]
        if not self.only_crop:
            return {"clips": [torch.from_numpy(transform.apply_clip(clip)) for clip, transform in drawn]}
        cropped = [torch.from_numpy(transform.crop.apply_clip(clip)) for clip, transform in drawn]
        return {"clips": cropped, "transforms": [transform for _, transform in drawn]}


def _training_augmentation(cfg: CfgNode) -> ClipAugmentation:
    """Return the augmentation of training; ConfigError if it gives clips of several sizes, which are not one batch."""
    if cfg.INPUT.CROP.TYPE == "none" and len(set(cfg.INPUT.MIN_SIZE_TRAIN)) > 1:
        raise ConfigError(
            f"INPUT.CROP.TYPE none with INPUT.MIN_SIZE_TRAIN {cfg.INPUT.MIN_SIZE_TRAIN}: clips of one batch need one size; "
            "take another INPUT.CROP.TYPE, or one size"
        )
    return ClipAugmentation.for_training(cfg)
