"""Where decoded frames become the clips that were asked for."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vdet_ssl.data.video.orientation import read_orientation
from vdet_ssl.data.video.yuv import FULL_RANGE, YUVClip, is_limited_gray, knows_matrix, rgb_matrix, stretch_gray

MAX_CLIP_BYTES = 2**31  # of all frames asked for at once

PixelFormat = Literal["rgb", "yuv"]
Clip = NDArray[np.uint8] | YUVClip


class ClipBuffer:
    """Takes PyAV frames and puts each, converted once, wherever it was asked for.

    Args:
        limits: for each clip an int array (T,): frame i is the last one presented at or before that time stamp.
        pixel_format: "rgb" or "yuv", see `vdet_ssl.data.video.reader.decode_clips`.
    """

    def __init__(self, limits: Sequence[NDArray[np.int64]], pixel_format: PixelFormat) -> None:
        if pixel_format not in ("rgb", "yuv"):
            raise ValueError(f'pixel_format is "{pixel_format}"; it has to be "rgb" or "yuv"')
        self._stored_as: tuple[int, int, str] | None = None
        self._pixel_format = pixel_format
        self._reformatter = VideoReformatter()
        self._lengths = [len(clip) for clip in limits]
        self._slots: dict[int, list[tuple[int, int]]] = {}  # limit -> (clip, frame) of all places
        for clip, clip_limits in enumerate(limits):
            for i, limit in enumerate(clip_limits.tolist()):
                self._slots.setdefault(limit, []).append((clip, i))
        self.limits = sorted(self._slots)

    def put(self, frame: av.VideoFrame, limits: Iterable[int]) -> None:
        """Write a frame wherever one of `limits` was asked for; ValueError where it does not fit those before."""
        if self._stored_as is None:
            self._begin(frame)
        if (frame.width, frame.height, frame.format.name) != self._stored_as:
            raise ValueError("frame size or pixel format changes within the video")
        planes = [self._orientation.apply(plane) for plane in self._planes(frame)]
        for limit in limits:
            for clip, i in self._slots[limit]:
                for target, plane in zip(self._clips[clip], planes, strict=True):
                    target[i] = plane

    def clips(self) -> list[Clip]:
        """Return the list of clips."""
        if self._is_yuv:
            return [YUVClip(y, u, v, self._matrix) for y, u, v in self._clips]
        return [rgb for (rgb,) in self._clips]

    def _begin(self, frame: av.VideoFrame) -> None:
        """Settle orientation, pixel format and size by the first frame, and allocate."""
        self._stored_as = (frame.width, frame.height, frame.format.name)
        self._orientation = read_orientation(frame)
        is_420 = frame.format.name in ("yuv420p", "yuvj420p")
        self._is_yuv = self._pixel_format == "yuv" and is_420 and knows_matrix(frame.colorspace)
        if self._is_yuv:
            is_full = frame.format.name == "yuvj420p" or frame.color_range == FULL_RANGE
            self._matrix = rgb_matrix(frame.colorspace, is_full)
        if sum(self._lengths) * frame.width * frame.height * 3 > MAX_CLIP_BYTES:
            raise ValueError(
                f"{sum(self._lengths)} frames of {frame.width} x {frame.height} pixels are too much at once"
            )
        shapes = [self._orientation.apply(plane).shape for plane in self._planes(frame)]
        self._clips = [[np.empty((length, *shape), np.uint8) for shape in shapes] for length in self._lengths]

    def _planes(self, frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
        """Y (H, W), U, V, or RGB (H, W, 3); as far as possible views of the frame's memory."""
        if self._is_yuv:
            return [_view(plane) for plane in frame.planes]
        (packed,) = self._reformatter.reformat(frame, format="rgb24", threads=1).planes
        rgb = _view(packed, 3)
        return [stretch_gray(rgb) if is_limited_gray(frame.format.name, frame.color_range) else rgb]


def _view(plane: VideoPlane, *depth: int) -> NDArray[np.uint8]:
    buffer: Any = plane  # which PyAV's stubs do not say
    return np.ndarray((plane.height, plane.width, *depth), np.uint8, buffer, strides=(plane.line_size, *depth, 1))
