"""Where decoded frames become the clips that were asked for."""

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter

from vdet_ssl.data.video.yuv import YUVClip, knows_matrix, rgb_matrix

MAX_CLIP_BYTES = 2**31  # of all frames asked for at once
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG


class ClipBuffer:
    """Takes PyAV frames and puts each, converted once, wherever it was asked for.

    Args:
        limits: for each clip an int array (T,): frame i is the last one presented at or before that time stamp.
        pixel_format: "rgb" or "yuv", see `vdet_ssl.data.video.reader.decode_clips`.
    """

    def __init__(self, limits, pixel_format):
        if pixel_format not in ("rgb", "yuv"):
            raise ValueError(f'pixel_format is "{pixel_format}"; it has to be "rgb" or "yuv"')
        self._stored_as = None
        self._pixel_format = pixel_format
        self._reformatter = VideoReformatter()
        self._lengths = [len(clip) for clip in limits]
        self._slots = {}
        for clip, clip_limits in enumerate(limits):
            for i, limit in enumerate(clip_limits.tolist()):
                self._slots.setdefault(limit, []).append((clip, i))
        self.limits = sorted(self._slots)

    def put(self, frame, limits):
        """Write a frame wherever one of `limits` was asked for; ValueError where it does not fit those before."""
        if self._stored_as is None:
            self._begin(frame)
        if (frame.width, frame.height, frame.format.name) != self._stored_as:
            raise ValueError("frame size or pixel format changes within the video")
        planes = [turn(plane, self._orientation) for plane in self._planes(frame)]
        for limit in limits:
            for clip, i in self._slots[limit]:
                for target, plane in zip(self._clips[clip], planes, strict=True):
                    target[i] = plane

    def clips(self):
        """Return the list of clips."""
        if self._is_yuv:
            return [YUVClip(*planes, self._matrix) for planes in self._clips]
        return [planes[0] for planes in self._clips]

    def _begin(self, frame):
        """Settle orientation, pixel format and size by the first frame, and allocate."""
        self._stored_as = (frame.width, frame.height, frame.format.name)
        self._orientation, _ = read_orientation(frame)
        is_420 = frame.format.name in ("yuv420p", "yuvj420p")
        self._is_yuv = self._pixel_format == "yuv" and is_420 and knows_matrix(frame.colorspace)
        if self._is_yuv:
            is_full = frame.format.name == "yuvj420p" or frame.color_range == _FULL_RANGE
            self._matrix = rgb_matrix(frame.colorspace, is_full)
        if sum(self._lengths) * frame.width * frame.height * 3 > MAX_CLIP_BYTES:
            raise ValueError(
                f"{sum(self._lengths)} frames of {frame.width} x {frame.height} pixels are too much at once"
            )
        shapes = [turn(plane, self._orientation).shape for plane in self._planes(frame)]
        self._clips = [[np.empty((length, *shape), np.uint8) for shape in shapes] for length in self._lengths]

    def _planes(self, frame):
        """Views of the frame's memory: Y (H, W), U, V, or RGB (H, W, 3)."""
        if not self._is_yuv:
            frame = self._reformatter.reformat(frame, format="rgb24", threads=1)
        depth = () if self._is_yuv else (3,)
        return [
            np.ndarray((p.height, p.width, *depth), np.uint8, p, strides=(p.line_size, *depth, 1)) for p in frame.planes
        ]


def read_orientation(frame):
    """Return how an av.VideoFrame has to be turned, for `turn`, and the degrees (counter-clockwise) of that rotation.

    The display matrix maps stored (x, y) to presented (a x + c y, b x + d y), y pointing down.
    """
    data = SideDataContainer(frame).get("DISPLAYMATRIX")  # frame.side_data is a cycle that keeps the frame's memory
    if data is None:
        return (False, False, False), 0
    (a, b, _), (c, d, _), _ = np.frombuffer(data, np.int32).reshape(3, 3).tolist()
    rotation = round(np.degrees(np.arctan2(-b, a)) / 90) * 90 % 360
    if abs(b) > abs(a):
        return (True, b < 0, c < 0), rotation
    return (False, d < 0, a < 0), rotation


def turn(plane, orientation):
    """Return a view of (H, W, ...) that is transposed, then flipped vertically and horizontally, where so said."""
    transposed, vertical, horizontal = orientation
    if transposed:
        plane = plane.swapaxes(0, 1)
    return plane[:: -1 if vertical else 1, :: -1 if horizontal else 1]
