"""Writing video: H.264 in mp4."""

from fractions import Fraction
from os import PathLike
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG


class VideoWriter:
    """A context manager that encodes frames, 8-bit 4:2:0; the file is complete after it.

    Args:
        path: of the file to write.
        fps: frames a second, presented at equal distances; or, with `time_base`, on average.
        width, height: pixels, both even.
        options: of x264, in FFmpeg's names, such as {"crf": "20", "preset": "veryfast"}.
        time_base: seconds that the time stamps of frames count, for frames that bring their own.
        colorspace: FFmpeg's number of the colour matrix that is written into the file, with "limited range"; None: no
            such tag.
    Raises:
        av.FFmpegError: the file cannot be written (also an OSError), or x264 refuses the options.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        fps: int | Fraction,
        width: int,
        height: int,
        options: dict[str, str],
        time_base: Fraction | None = None,
        colorspace: int | None = None,
    ) -> None:
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        if time_base is not None:
            self._stream.codec_context.time_base = self._stream.time_base = time_base
        if colorspace is not None:
            self._stream.codec_context.colorspace = colorspace
            self._stream.codec_context.color_range = _LIMITED_RANGE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def write(self, frame: NDArray[np.uint8] | av.VideoFrame) -> None:
        """Write the next frame: uint8 (H, W, 3) RGB, or an av.VideoFrame, with its own time stamp where it has one."""
        if not isinstance(frame, av.VideoFrame):
            frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
        self._container.mux(self._stream.encode(frame))


def nearest_rate(fps: float) -> Fraction:
    """Return a frame rate as the fraction that containers hold, such as 30000/1001; 25 for an unknown one (0)."""
    return Fraction(fps or 25).limit_denominator(1001)
