"""Videos encoded anew, once, so that training decodes its clips faster."""

import errno
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vdet_ssl.data.video.clip_buffer import read_orientation, turn
from vdet_ssl.data.video.pyav_reader import PyAVReader
from vdet_ssl.errors import VideoError

# x264's parameters.  Frames that no other refers to need not be decoded where they are not wanted ("bframes": of 8
# frames 7); entropy coding by CAVLC takes less time than by CABAC; without deblocking frames take less still.
PROFILES = {
    "bframes": "keyint=32:min-keyint=32:scenecut=0:bframes=7:b-adapt=0:b-pyramid=none:ref=1:weightp=0:cabac=0",
    "intra": "keyint=1:cabac=0:no-deblock=1",
}
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BT601_AND_709 = (1, 5, 6)  # FFmpeg's numbers of the colour matrices that stay as they are; others become BT.601


def transcode(source, target, *, profile, short_side, crf, timeout_s):
    """Encode the picture of a video anew, as H.264 in mp4: upright, 8-bit 4:2:0, same frames at the same times.

    Args:
        source: path of the video; target: path of the new file, whose folder is made where it is missing.
        profile: "bframes" (an anchor every 8 frames, 7 disposable B-frames between, a key frame every 32) or "intra".
        short_side: pixels to which the shorter side is reduced; 0, or more than it has: as it is.
        crf: x264's constant rate factor: lower is better and larger; 18 is hardly to be told from the source.
        timeout_s: seconds after which it is given up; 0: never.
    Raises:
        VideoError: if the source cannot be decoded completely, or x264 refuses it.
        OSError: if the new file cannot be written.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.partial.mp4")
    try:
        with PyAVReader(source, timeout_s) as reader, av.open(str(partial), "w") as container:
            _encode(reader, container, PROFILES[profile], short_side, crf)
        os.replace(partial, target)
    except av.FFmpegError as error:
        if error.errno in DISK_IS_FULL:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise VideoError(source, f"cannot be encoded anew: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _encode(reader, container, x264_params, short_side, crf):
    rate = Fraction(reader.fps or 25).limit_denominator(1001)
    options = {"crf": str(crf), "preset": "medium", "x264-params": f"{x264_params}:threads=1"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = stream.time_base = reader.time_base
    reformatter, size = VideoReformatter(), None
    for time_s, frame in reader.frames():
        frame = _upright(frame)
        if size is None:
            stream.width, stream.height = size = _output_size(frame, short_side)
            stream.codec_context.colorspace = frame.colorspace if frame.colorspace in _BT601_AND_709 else 5
            stream.codec_context.color_range = 1  # limited
            colorspace = stream.codec_context.colorspace
        frame = reformatter.reformat(
            frame, *size, "yuv420p", dst_colorspace=colorspace, dst_color_range=1, interpolation="AREA", threads=1
        )
        frame.pts, frame.time_base, frame.pict_type = round(time_s / reader.time_base), reader.time_base, 0
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _upright(frame):
    orientation, _ = read_orientation(frame)
    if not any(orientation):
        return frame
    return av.VideoFrame.from_ndarray(
        np.ascontiguousarray(turn(frame.to_ndarray(format="rgb24"), orientation)), "rgb24"
    )


def _output_size(frame, short_side):
    """Return width and height, even as 4:2:0 needs them."""
    scale = min(short_side / min(frame.width, frame.height), 1.0) if short_side else 1.0
    return tuple(max(round(side * scale / 2), 1) * 2 for side in (frame.width, frame.height))
