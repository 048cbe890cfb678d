"""Reading video: a path and presentation times in seconds -> uint8 frames.

Time 0 is when the first frame is presented, whatever time stamp the file gives it.  The frame at time t is the last
one presented at or before t + `vdet_ssl.data.video.info.TIME_TOLERANCE_S`; times before 0 give the first frame, times
after the end the last.

Pixels are those of the file after its rotation (and mirroring) metadata; non-square pixels stay as they are.  Nothing
is returned that the decoder reported as damaged, and nothing stands in for frames that the file promises and lacks:
that, like everything else that goes wrong with a file, is a `VideoError`.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Protocol, Self

from numpy.typing import ArrayLike

from vdet_ssl.data.video.clip_buffer import Clip, PixelFormat
from vdet_ssl.data.video.info import VideoInfo
from vdet_ssl.data.video.pyav_reader import PyAVReader
from vdet_ssl.errors import ConfigError


class VideoReader(Protocol):
    """An open video: a context manager that closes it at the end.

    Attributes:
        path: of the file.
        duration_s: seconds from the presentation of the first frame to the end of the last, as the container has it.
        fps: average frames a second, as the container has it; 0 where it does not say.
        info: the VideoInfo; `duration_s` and `fps` are there for less.
    """

    path: str

    @property
    def duration_s(self) -> float: ...
    @property
    def fps(self) -> float: ...
    @property
    def info(self) -> VideoInfo: ...

    def decode_clips(self, times_s: Sequence[ArrayLike], pixel_format: PixelFormat = "rgb") -> list[Clip]:
        """See `decode_clips` below; can be called again for other clips of the video."""

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def open_video(path: str | PathLike[str], *, backend: str = "pyav", timeout_s: float = 0.0) -> VideoReader:
    """Open a video.

    Args:
        path: of the file.
        backend: "pyav" or "torchcodec" (INPUT.DECODER).
        timeout_s: seconds from now after which work on this file ends in a VideoError (checked between packets, and
            in FFmpeg's reads); 0: never.
    Raises:
        VideoError: the file cannot be read.
        ConfigError: there is no such backend, or it is not installed.
    """
    if backend == "pyav":
        return PyAVReader(path, timeout_s)
    if backend == "torchcodec":
        try:
            from vdet_ssl.data.video.torchcodec_reader import TorchCodecReader
        except ImportError as error:
            raise ConfigError(str(error)) from error
        return TorchCodecReader(path, timeout_s)
    raise ConfigError(f'INPUT.DECODER is "{backend}"; it has to be "pyav" or "torchcodec"')


def probe(path: str | PathLike[str], *, backend: str = "pyav", timeout_s: float = 0.0) -> VideoInfo:
    """Return the VideoInfo of a file; raises as `open_video`."""
    with open_video(path, backend=backend, timeout_s=timeout_s) as video:
        return video.info


def decode_clips(
    path: str | PathLike[str],
    times_s: Sequence[ArrayLike],
    *,
    backend: str = "pyav",
    timeout_s: float = 0.0,
    pixel_format: PixelFormat = "rgb",
) -> list[Clip]:
    """Decode the clips of one video: one open and one pass forward for all of them.

    Args:
        path, backend, timeout_s: as in `open_video`.
        times_s: for each clip an array (T,) of presentation times in seconds, in any order.
        pixel_format: "rgb", or "yuv": clips stay as the codec has them where that is 8-bit 4:2:0, and are RGB where
            it is anything else.
    Returns:
        list, for each clip: uint8 array (T, H, W, 3) RGB, or `vdet_ssl.data.video.yuv.YUVClip`
    Raises:
        VideoError: anything that was asked for cannot be decoded; ConfigError as `open_video`.
    """
    with open_video(path, backend=backend, timeout_s=timeout_s) as video:
        return video.decode_clips(times_s, pixel_format)
