"""Reading video with PyAV, which carries its own FFmpeg: the default backend of `vdet_ssl.data.video.reader`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from os import PathLike
from typing import Self

import av
import numpy as np
from numpy.typing import ArrayLike

from vdet_ssl.data.video.clip_buffer import Clip, ClipBuffer, PixelFormat
from vdet_ssl.data.video.decoding import fill, first_frame, frames_in_order
from vdet_ssl.data.video.info import Deadline, VideoInfo
from vdet_ssl.data.video.orientation import read_orientation
from vdet_ssl.data.video.packets import PacketReader
from vdet_ssl.data.video.planning import limits_of_times, shown_end
from vdet_ssl.errors import VideoError

# What the libraries raise on a damaged file.
_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError)


class PyAVReader:
    """See `vdet_ssl.data.video.reader.open_video`."""

    def __init__(self, path: str | PathLike[str], timeout_s: float) -> None:
        self.path = str(path)
        self._deadline = Deadline(timeout_s)
        self._open_packets: PacketReader | None = None
        with self._errors_named():
            self.time_base, self.fps = self._packets.container.time_base, self._packets.container.fps

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._open_packets is not None:
            self._open_packets.close()
        self._open_packets = None

    @property
    def _packets(self) -> PacketReader:
        """The open file, opened again after an error closed it."""
        if self._open_packets is None:
            self._open_packets = PacketReader(self.path, self._deadline)
        return self._open_packets

    @cached_property
    def duration_s(self) -> float:
        """Seconds from the presentation of the first frame to the end of the last, as the container has it."""
        with self._errors_named():
            packets = self._packets
            end, _ = packets.container.promised_end(packets.origin)
            if end is None:
                end = shown_end(packets.rewind())
            return 0.0 if end is None else packets.seconds(end)

    @cached_property
    def info(self) -> VideoInfo:
        """The VideoInfo.  `duration_s` and `fps` are there for less: size and rotation take the decoding of a frame."""
        with self._errors_named():
            frame = first_frame(self._packets)
            return self._describe(frame, self.duration_s, self.fps, self._packets.container.stream.frames or None)

    def measure(self) -> VideoInfo:
        """Decode all frames; return the VideoInfo with exact duration, frames and frame rate, or raise VideoError."""
        count, end_s, formats = 0, Fraction(0), set()
        for time_s, frame in self.frames():
            end_s, count = time_s, count + 1
            formats.add((frame.width, frame.height, frame.format.name))
            if len(formats) > 1:
                raise VideoError(self.path, "frame size or pixel format changes within the video")
        with self._errors_named():
            frame_s = end_s / (count - 1) if count > 1 else self._packets.container.frame_ticks * self.time_base
            end_s += frame_s  # the last frame, too, lasts as long as they do on average
            return self._describe(frame, float(end_s), float(1 / frame_s), count)

    def frames(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Yield all frames in the order of presentation: seconds from the first one, and av.VideoFrame.

        Raises VideoError where one cannot be decoded, and at the end if the container promises more.
        """
        with self._errors_named():
            packets = self._packets
            for stamp, frame in frames_in_order(packets, np.inf):
                yield (stamp - packets.origin) * self.time_base, frame

    def decode_clips(self, times_s: Sequence[ArrayLike], pixel_format: PixelFormat = "rgb") -> list[Clip]:
        """See `vdet_ssl.data.video.reader.decode_clips`; can be called again for other clips of the video."""
        with self._errors_named():
            origin = self._packets.origin
            limits = [limits_of_times(times, origin=origin, time_base=self.time_base) for times in times_s]
            buffer = ClipBuffer(limits, pixel_format)
            fill(buffer, self._packets)
            return buffer.clips()

    def check_end(self, last_s: float, end_s: float) -> None:
        """Fail if the video ends at `end_s` although its container promises more, and times up to `last_s` are wanted.

        Times in seconds from the first frame; raises VideoError.
        """
        with self._errors_named():
            packets = self._packets
            last, end = (packets.origin + Fraction(seconds) / self.time_base for seconds in (last_s, end_s))
            packets.check_end(last, end, packets.container.frame_ticks)

    def _describe(self, frame: av.VideoFrame, duration_s: float, fps: float, num_frames: int | None) -> VideoInfo:
        orientation = read_orientation(frame)
        width, height = orientation.upright_size(frame.width, frame.height)
        codec = self._packets.container.codec.codec.canonical_name
        return VideoInfo(duration_s, fps, num_frames, width, height, codec, orientation.rotation)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn whatever the libraries raise on a damaged file into a VideoError."""
        try:
            yield
        except VideoError:
            self.close()
            raise
        except _ERRORS as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise VideoError(self.path, reason) from error
