"""What a clip is, and when the clips of a video are: pure functions of time (sections 3.1, 4.2, B.1, B.3).

A clip of T frames with stride tau covers T * tau raw frames, hence T * tau / frame rate seconds: its span.  Clips lie
inside the video.  A video shorter than the span gets clips that start at 0 and run past its end; the reader answers
times before the first frame with the first frame and times after the last with the last, so such a clip holds its
last frame.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vdet_ssl.config import CfgNode

Times = NDArray[np.float64]
"""When the T frames of a clip are presented, float64 (T,), in seconds from the first frame of the video."""


@dataclass(frozen=True)
class ClipSpec:
    """What a clip is: how many frames, and how far apart.

    `fps` is always the video's own frame rate, which counts where `frame_rate` is 0.

    Attributes:
        num_frames: T.
        sampling_rate: tau, in raw frames.
        frame_rate: raw frames a second; 0: the video's own.
        spacing: "stride": frame i is i * tau raw frames after the first (section 3.1).  "linspace": frames are spread
            evenly from the first to the last of the T * tau raw frames, as PySlowFast does.
    """

    num_frames: int
    sampling_rate: int
    frame_rate: float = 0.0
    spacing: Literal["stride", "linspace"] = "stride"

    def __post_init__(self) -> None:
        if self.spacing not in ("stride", "linspace"):
            raise ValueError(f'spacing is "{self.spacing}"; it has to be "stride" or "linspace"')

    @classmethod
    def from_cfg(cls, cfg: CfgNode, spacing: Literal["stride", "linspace"] | None = None) -> "ClipSpec":
        """Return the clip that INPUT describes; `spacing`: instead of INPUT.FRAME_SPACING, which is not read then."""
        return cls(
            num_frames=cfg.INPUT.NUM_FRAMES,
            sampling_rate=cfg.INPUT.SAMPLING_RATE,
            frame_rate=cfg.INPUT.FRAME_RATE,
            spacing=spacing or cfg.INPUT.FRAME_SPACING,
        )

    def span_s(self, fps: float, speed: float = 1.0) -> float:
        """Return the time that T * tau raw frames take, in seconds; at a speed of 1.5, 1.5 times that."""
        return self.num_frames * self.sampling_rate * speed / (self.frame_rate or fps)

    def times_s(self, start_s: float, fps: float, speed: float = 1.0) -> Times:
        """Return the times of the frames of a clip that starts at `start_s` and is played at `speed`."""
        if self.spacing == "stride":
            raw_frames = np.arange(self.num_frames, dtype=np.float64) * self.sampling_rate
        else:
            raw_frames = np.linspace(0.0, self.num_frames * self.sampling_rate - 1.0, self.num_frames)
        return start_s + raw_frames * (speed / (self.frame_rate or fps))

    def times_around_s(self, time_s: float, fps: float) -> Times:
        """Return the times of the frames of the clip around a key frame at `time_s` (B.3).

        Frame i is i * tau - T * tau // 2 raw frames from the key frame, whatever the spacing, as in PySlowFast: of 8
        frames the fifth is the key frame.  Times may lie outside the video (see the top of this file).
        """
        half = self.num_frames * self.sampling_rate // 2
        return time_s + (np.arange(self.num_frames) * self.sampling_rate - half) / (self.frame_rate or fps)


class ClipSampler(Protocol):
    """Says when the clips of a video are."""

    def __call__(self, rng: np.random.Generator, duration_s: float, fps: float) -> list[Times]:
        """Return the times of each clip of a video of `duration_s` seconds with `fps` frames a second."""
        ...


@dataclass(frozen=True)
class RandomClips:
    """Draws rho clips, uniformly over all that lie in the video within `t_max_s` of each other (sections 4.2, B.1).

    Attributes:
        clip: what a clip is.
        num_clips: rho.
        t_max_s: longest time between the starts of two clips, in seconds; negative: unlimited.
        frame_rate_jitter: each clip is played at a speed drawn from 1 +- this (section 4.5, Table 7).
    """

    clip: ClipSpec
    num_clips: int = 1
    t_max_s: float = -1.0
    frame_rate_jitter: float = 0.0

    def __call__(self, rng: np.random.Generator, duration_s: float, fps: float) -> list[Times]:
        speeds = rng.uniform(1.0 - self.frame_rate_jitter, 1.0 + self.frame_rate_jitter, self.num_clips)
        latest_s = _latest_start_s(duration_s, self.clip.span_s(fps, speeds.max()))
        starts_s = draw_start_times(rng, num_clips=self.num_clips, latest_s=latest_s, t_max_s=self.t_max_s)
        return [
            self.clip.times_s(start_s, fps, speed)
            for start_s, speed in zip(starts_s.tolist(), speeds.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class UniformClips:
    """Spreads clips evenly over a video: the first starts with it, the last ends with it; one is in the middle.

    As PySlowFast's views of a test video (with its DATA.USE_OFFSET_SAMPLING), but for the rounding to whole frames.
    """

    clip: ClipSpec
    num_clips: int = 1

    def __call__(self, rng: np.random.Generator, duration_s: float, fps: float) -> list[Times]:
        latest_s = _latest_start_s(duration_s, self.clip.span_s(fps))
        starts_s = [latest_s / 2] if self.num_clips == 1 else np.linspace(0.0, latest_s, self.num_clips).tolist()
        return [self.clip.times_s(start_s, fps) for start_s in starts_s]


@dataclass(frozen=True)
class SegmentClip:
    """One clip of the whole video: a frame of each of T equal segments, as PySlowFast samples Something-Something.

    Attributes:
        num_frames: T.
        frame_rate: raw frames a second; 0: the video's own.
        is_random: any frame of its segment, as in training; else the middle one.
    """

    num_frames: int
    frame_rate: float = 0.0
    is_random: bool = False

    def __call__(self, rng: np.random.Generator, duration_s: float, fps: float) -> list[Times]:
        rate = self.frame_rate or fps
        last = max(round(duration_s * rate) - 1, 0)  # number of the last raw frame
        edges = np.round(last / self.num_frames * np.arange(self.num_frames + 1)).astype(np.int64)
        first, end = edges[:-1], edges[1:]
        raw_frames = rng.integers(first, end, endpoint=True) if self.is_random else (first + end) // 2
        return [raw_frames / rate]


def draw_start_times(rng: np.random.Generator, *, num_clips: int, latest_s: float, t_max_s: float) -> Times:
    """Draw the start times of rho clips of one video, uniformly over all admissible tuples (sections 4.2, B.1).

    A tuple is admissible if each clip lies inside the video and no two clips start more than `t_max_s` apart.

    Args:
        num_clips: rho.
        latest_s: the last time at which a clip can start.
        t_max_s: longest time between the starts of two clips; negative: unlimited, 0: all start together.
    Returns:
        float64 array (num_clips,) of seconds, in random order.
    """
    reach = latest_s if t_max_s < 0 else min(t_max_s, latest_s)
    # Given the earliest start m, the other rho - 1 are uniform in [m, min(m + reach, latest)].  So the density of m is
    # proportional to reach ** (rho - 1) up to latest - reach, and to (latest - m) ** (rho - 1) from there on.
    # The two parts integrate to these, divided by reach ** (rho - 1):
    flat, tail = latest_s - reach, reach / num_clips
    if rng.random() * (flat + tail) < flat:
        earliest = rng.uniform(0.0, flat)
    else:
        earliest = latest_s - reach * rng.random() ** (1.0 / num_clips)
    starts = rng.uniform(earliest, min(earliest + reach, latest_s), num_clips)
    starts[rng.integers(num_clips)] = earliest
    return starts


def _latest_start_s(duration_s: float, span_s: float) -> float:
    """Return when the last clip of this span can start, in seconds; 0 where the video is shorter."""
    return max(duration_s - span_s, 0.0)
