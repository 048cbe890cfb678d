"""Reading video: a path and presentation times in seconds -> uint8 frames.

Time 0 is when the first frame is presented, whatever time stamp the file gives it.  The frame at time t is the last
one presented at or before t + `TIME_TOLERANCE_S`; times before 0 give the first frame, times after the end the last.

Pixels are those of the file after its rotation (and mirroring) metadata; non-square pixels stay as they are.  Nothing
is returned that the decoder reported as damaged, and nothing stands in for frames that the file promises and lacks:
that, like everything else that goes wrong with a file, is a `VideoError`.
"""

from dataclasses import dataclass

import numpy as np

# Containers round time stamps, some (mkv, webm, flv) to whole milliseconds: that of the first frame and that of the
# wanted one may be off by half of one each.  The bit above that keeps the limit off the stamps of common time bases.
TIME_TOLERANCE_S = 1.02e-3


@dataclass(frozen=True)
class VideoInfo:
    """What the container says about a video, without decoding it.

    Attributes:
        duration_s: from the presentation of the first frame to the end of the last.
        fps: average frames a second.
        num_frames: None where the container does not know.
        width, height: in pixels, as presented (after rotation).
        codec: FFmpeg's name of it.
        rotation: degrees counter-clockwise by which stored frames are turned for presentation: 0, 90, 180 or 270.
    """

    duration_s: float
    fps: float
    num_frames: int | None
    width: int
    height: int
    codec: str
    rotation: int


def open_video(path, *, backend, timeout_s):
    """Open a video; a context manager with `duration_s`, `fps`, `info` and `decode_clips(times_s, pixel_format)`.

    Args:
        path: str or Path of the file.
        backend: "pyav" or "torchcodec" (INPUT.DECODER).
        timeout_s: seconds from now after which work on this file ends in a VideoError (checked between packets, and
            in FFmpeg's reads); 0: never.
    Raises:
        VideoError: if the file cannot be read.
        ImportError: if the backend is not installed.
        ValueError: if there is no such backend.
    """
    if backend == "pyav":
        from vdet_ssl.data.video.pyav_reader import PyAVReader as Reader
    elif backend == "torchcodec":
        from vdet_ssl.data.video.torchcodec_reader import TorchCodecReader as Reader
    else:
        raise ValueError(f'INPUT.DECODER is "{backend}"; it has to be "pyav" or "torchcodec"')
    return Reader(path, timeout_s)


def probe(path, *, backend="pyav", timeout_s=0.0):
    """Return the VideoInfo of a file; raises VideoError."""
    with open_video(path, backend=backend, timeout_s=timeout_s) as video:
        return video.info


def decode_clips(path, times_s, *, backend, timeout_s, pixel_format="rgb"):
    """Decode the clips of one video: one open and one pass forward for all of them.

    Args:
        path, backend, timeout_s: as in `open_video`.
        times_s: for each clip an array (T,) of presentation times in seconds, in any order.
        pixel_format: "rgb", or "yuv": clips stay as the codec has them where that is 8-bit 4:2:0, and are RGB where
            it is anything else.
    Returns:
        list, for each clip: uint8 array (T, H, W, 3) RGB, or `vdet_ssl.data.video.yuv.YUVClip`
    Raises:
        VideoError: if anything that was asked for cannot be decoded; ImportError, ValueError as `open_video`.
    """
    with open_video(path, backend=backend, timeout_s=timeout_s) as video:
        return video.decode_clips([np.asarray(times, np.float64) for times in times_s], pixel_format)
