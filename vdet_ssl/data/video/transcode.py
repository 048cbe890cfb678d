"""Videos encoded again, once, so that training decodes its clips faster."""

import os
from collections.abc import Iterator
from itertools import chain
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vdet_ssl.data.video.orientation import read_orientation
from vdet_ssl.data.video.pyav_reader import PyAVReader
from vdet_ssl.data.video.writer import VideoWriter, nearest_rate
from vdet_ssl.data.video.yuv import is_limited_gray, stretch_gray
from vdet_ssl.errors import DISK_IS_FULL, VideoError

# x264's parameters.  Frames that no other refers to need not be decoded where they are not wanted ("bframes": of 8
# frames 7); entropy coding by CAVLC takes less time than by CABAC; without deblocking frames take less still.
PROFILES = {
    "bframes": "keyint=32:min-keyint=32:scenecut=0:bframes=7:b-adapt=0:b-pyramid=none:ref=1:weightp=0:cabac=0",
    "intra": "keyint=1:cabac=0:no-deblock=1",
}
_BT601_AND_709 = (1, 5, 6)  # FFmpeg's numbers of the colour matrices that stay as they are; others become BT.601
_BT601 = 5


def transcode(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    profile: str,
    short_side: int,
    crf: int,
    timeout_s: float,
) -> None:
    """Encode the frames of a video again, as H.264 in mp4: upright, 8-bit 4:2:0, same frames at the same times.

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
    options = {"crf": str(crf), "preset": "medium", "x264-params": f"{PROFILES[profile]}:threads=1"}
    try:
        partial.unlink(missing_ok=True)
        partial.touch(exist_ok=False)  # a link that somebody has planted is not followed
        with PyAVReader(source, timeout_s) as reader:
            _encode(reader, partial, short_side, options)
        os.replace(partial, target)
    except av.FFmpegError as error:
        if error.errno in DISK_IS_FULL:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise VideoError(source, f"cannot be encoded again: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _encode(reader: PyAVReader, path: Path, short_side: int, options: dict[str, str]) -> None:
    frames = _upright_frames(reader)
    first = next(frames)
    width, height = _output_size(first, short_side)
    colorspace = first.colorspace if first.colorspace in _BT601_AND_709 else _BT601
    to_420 = VideoReformatter()
    with VideoWriter(
        path,
        fps=nearest_rate(reader.fps),
        width=width,
        height=height,
        options=options,
        time_base=reader.time_base,
        colorspace=colorspace,
    ) as writer:
        for frame in chain([first], frames):
            stored = to_420.reformat(
                frame,
                width,
                height,
                "yuv420p",
                dst_colorspace=colorspace,
                dst_color_range=1,
                interpolation="AREA",
                threads=1,
            )
            stored.pts, stored.time_base, stored.pict_type = frame.pts, reader.time_base, 0
            writer.write(stored)


def _upright_frames(reader: PyAVReader) -> Iterator[av.VideoFrame]:
    """Yield all frames, rotated where the file says so; their time stamps count from the first one."""
    for time_s, frame in reader.frames():
        orientation = read_orientation(frame)
        is_limited = is_limited_gray(frame.format.name, frame.color_range)
        if is_limited or not orientation.is_upright:
            rgb = orientation.apply(frame.to_ndarray(format="rgb24"))
            rgb = stretch_gray(np.ascontiguousarray(rgb)) if is_limited else rgb
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        frame.pts = round(time_s / reader.time_base)
        yield frame


def _output_size(frame: av.VideoFrame, short_side: int) -> tuple[int, int]:
    """Return width and height, even as 4:2:0 needs them."""
    scale = min(short_side / min(frame.width, frame.height), 1.0) if short_side else 1.0
    width, height = (max(round(side * scale / 2), 1) * 2 for side in (frame.width, frame.height))
    return width, height
