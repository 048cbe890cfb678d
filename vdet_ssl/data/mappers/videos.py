"""From the record of a video to its rho augmented clips (section 3.1, B.1)."""

import torch
from detectron2.config import configurable

from vdet_ssl.data import clips as sampling
from vdet_ssl.data.transforms import ClipAugmentation, crop_clip, recolor_clip
from vdet_ssl.data.video.reader import open_video


class PretrainMapper:
    """Draws when the clips start, decodes them in one pass over the file and augments each by itself.

    In training there are rho clips, for rho = 1 two crops of one clip.  Else there is one, in the middle of the video
    and of the frame, with nothing random: for features.

    Args:
        is_train: which of the two.
        num_clips: rho.
        num_frames, sampling_rate: T, and tau in raw frames.
        frame_rate: raw frames a second; 0: the video's own.
        frame_spacing: "stride" or "linspace", see `sampling.frame_times`.
        frame_rate_jitter: clips are played at 1 +- this times their speed.
        t_max_s: longest time between the starts of two clips; negative: unlimited.
        augmentation: ClipAugmentation.
        augmentation_device: "cpu", or "model": only crop here, and leave the rest to `augment_batch`.
        decoder, decode_timeout_s: as in `decode.open_video`.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train,
        num_clips,
        num_frames,
        sampling_rate,
        frame_rate,
        frame_spacing,
        frame_rate_jitter,
        t_max_s,
        augmentation,
        augmentation_device,
        decoder,
        decode_timeout_s,
    ):
        if num_clips < 1:
            raise ValueError(f"INPUT.NUM_CLIPS is {num_clips}; it has to be at least 1")
        if not 0 <= frame_rate_jitter < 1:
            raise ValueError(f"INPUT.FRAME_RATE_JITTER is {frame_rate_jitter}; it has to be in [0, 1)")
        if augmentation_device not in ("cpu", "model"):
            raise ValueError(f'INPUT.AUGMENTATION_DEVICE is "{augmentation_device}"; it has to be "cpu" or "model"')
        self.is_train = is_train
        self.num_clips = num_clips
        self.num_frames = num_frames
        self.sampling_rate = sampling_rate
        self.frame_rate = frame_rate
        self.frame_spacing = frame_spacing
        self.frame_rate_jitter = frame_rate_jitter
        self.t_max_s = t_max_s
        self.augmentation = augmentation
        self.augmentation_device = augmentation_device
        self.decoder = decoder
        self.decode_timeout_s = decode_timeout_s

    @classmethod
    def from_config(cls, cfg, is_train):
        return {
            "is_train": is_train,
            "num_clips": cfg.INPUT.NUM_CLIPS,
            "num_frames": cfg.INPUT.NUM_FRAMES,
            "sampling_rate": cfg.INPUT.SAMPLING_RATE,
            "frame_rate": cfg.INPUT.FRAME_RATE,
            "frame_spacing": cfg.INPUT.FRAME_SPACING,
            "frame_rate_jitter": cfg.INPUT.FRAME_RATE_JITTER,
            "t_max_s": cfg.INPUT.T_MAX_S,
            "augmentation": ClipAugmentation(cfg, is_train),
            "augmentation_device": cfg.INPUT.AUGMENTATION_DEVICE if is_train else "cpu",
            "decoder": cfg.INPUT.DECODER,
            "decode_timeout_s": cfg.DATALOADER.DECODE_TIMEOUT_S,
        }

    def __call__(self, record, rng):
        """Return the sample of one video.

        Args:
            record: {"file_name", "video_id", and optionally "duration_s", "label"}.
            rng: numpy.random.Generator; the sample follows from it and the record alone.
        Returns:
            dict: "clips": list of uint8 tensors (T, H, W, 3) RGB, "start_times_s": list of float, "video_id",
            "file_name", "label" if the record has one, and "augmentations": list of `Augmentation` still to be
            applied if `augmentation_device` is "model".
        Raises:
            VideoError: if the file cannot be decoded.
        """
        starts_s, clips = self.decode(record, rng)
        sample = {key: record[key] for key in ("file_name", "video_id", "label") if key in record}
        return {**sample, "start_times_s": starts_s, **self.augment(clips, rng)}

    def decode(self, record, rng):
        """Draw when the clips start and decode them; return start times (list of float) and clips (see `crop_clip`)."""
        with open_video(record["file_name"], backend=self.decoder, timeout_s=self.decode_timeout_s) as video:
            duration_s = record.get("duration_s") or video.duration_s
            starts_s, times_s = self._draw_times(rng, duration_s, self.frame_rate or video.fps)
            clips = video.decode_clips(times_s, "yuv")
        if self.is_train and self.num_clips == 1:
            return starts_s * 2, clips * 2
        return starts_s, clips

    def augment(self, clips, rng):
        """Draw the augmentation of each clip and apply it, or its crop only; return that part of the sample."""
        drawn = [self.augmentation.draw(rng, *clip.shape[1:3]) for clip in clips]
        clips = [crop_clip(clip, augmentation.crop) for clip, augmentation in zip(clips, drawn, strict=True)]
        if self.augmentation_device == "model":
            return {"clips": [torch.from_numpy(clip) for clip in clips], "augmentations": drawn}
        clips = [recolor_clip(clip, augmentation) for clip, augmentation in zip(clips, drawn, strict=True)]
        return {"clips": [torch.from_numpy(clip) for clip in clips]}

    def _draw_times(self, rng, duration_s, frame_rate):
        """Return the start of each clip (list of float) and the times of its frames (list of arrays (T,)), seconds."""
        clip = {"num_frames": self.num_frames, "sampling_rate": self.sampling_rate, "frame_rate": frame_rate}
        if self.is_train:
            speeds = sampling.draw_speeds(rng, num_clips=self.num_clips, jitter=self.frame_rate_jitter)
            span_s = sampling.clip_span_s(**clip, speed=max(speeds))
            starts_s = sampling.draw_start_times(
                rng, num_clips=self.num_clips, duration_s=duration_s, span_s=span_s, t_max_s=self.t_max_s
            ).tolist()
        else:
            speeds = [1.0]
            starts_s = [sampling.centered_start_s(duration_s=duration_s, span_s=sampling.clip_span_s(**clip))]
        times_s = [
            sampling.frame_times(start_s, **clip, spacing=self.frame_spacing, speed=speed)
            for start_s, speed in zip(starts_s, speeds, strict=True)
        ]
        return starts_s, times_s
