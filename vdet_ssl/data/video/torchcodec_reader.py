"""Reading video with torchcodec, where it and the FFmpeg it needs are installed: INPUT.DECODER "torchcodec".

Its exact seek mode reads the time stamps of all packets first; the approximate one is off by a frame on some files.
Some files it cannot place (open GOPs, intra refresh, transport streams, avi, raw streams), some it shows in another way
(mirrored, gray of limited range), and of some it lacks the last frame (very high frame rates): those are read with PyAV.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vdet_ssl.data.video.clip_buffer import Clip, PixelFormat
from vdet_ssl.data.video.info import TIME_TOLERANCE_S, Deadline, VideoInfo
from vdet_ssl.data.video.pyav_reader import PyAVReader
from vdet_ssl.errors import ConfigError, VideoError

_MISSING = 'INPUT.DECODER is "torchcodec", which is not installed or does not find FFmpeg: install both or use "pyav"'
try:
    from torchcodec.decoders import VideoDecoder
except (ImportError, RuntimeError) as error:  # RuntimeError: where the FFmpeg libraries are missing
    raise ImportError(_MISSING) from error


class TorchCodecReader:
    """See `vdet_ssl.data.video.reader.open_video`.

    A call of torchcodec cannot be interrupted: the time limit is looked at before each.
    """

    def __init__(self, path: str | PathLike[str], timeout_s: float) -> None:
        self._deadline = Deadline(timeout_s)
        self._pyav = PyAVReader(path, timeout_s)
        self.path = self._pyav.path
        self._decoder: VideoDecoder | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._decoder = None
        self._pyav.close()

    @property
    def duration_s(self) -> float:
        """Seconds from the presentation of the first frame to the end of the last, as the container has it."""
        return self._pyav.duration_s

    @property
    def fps(self) -> float:
        """Average frames a second, as the container has it; 0 where it does not say."""
        return self._pyav.fps

    @property
    def info(self) -> VideoInfo:
        """The VideoInfo."""
        return self._pyav.info

    def decode_clips(self, times_s: Sequence[ArrayLike], pixel_format: PixelFormat = "rgb") -> list[Clip]:
        """See `vdet_ssl.data.video.reader.decode_clips`; all clips are RGB."""
        try:
            return list(self.decode_directly(times_s))
        except VideoError:
            return self._pyav.decode_clips(times_s, "rgb")

    def decode_directly(self, times_s: Sequence[ArrayLike]) -> list[NDArray[np.uint8]]:
        """Decode with torchcodec alone; VideoError also where only torchcodec fails."""
        clips_s = [np.asarray(times, np.float64) for times in times_s]
        times = np.concatenate(clips_s) + self._pyav.container.tolerance_s
        with self._errors_named():
            if self._decoder is None:
                self._decoder = self._open()
            metadata = self._decoder.metadata
            begin_s, end_s = metadata.begin_stream_seconds_from_content, metadata.end_stream_seconds_from_content
            if begin_s + times.max() > end_s:
                self._pyav.check_end(times.max(), end_s - begin_s)
            inside = (begin_s + times.clip(0)).clip(max=end_s - 1e-6)
            frames = self._decoder.get_frames_played_at(inside.tolist())
            if (frames.pts_seconds.numpy() > inside + 1e-6).any():
                raise ValueError("torchcodec returned later frames than it was asked for")
        return np.split(frames.data.numpy(), np.cumsum([len(times) for times in clips_s])[:-1])

    def _open(self) -> VideoDecoder:
        """Open the file, or raise a ValueError where torchcodec would not show it as it is."""
        container = self._pyav.container
        if not container.is_timed:
            raise ValueError("it has no presentation times, and torchcodec mistakes them")
        if (container.codec.pix_fmt or "").startswith("gray"):
            raise ValueError("torchcodec does not look at the range of gray")
        if container.tolerance_s < TIME_TOLERANCE_S:
            raise ValueError("at very high frame rates torchcodec may not reach the last frame")
        decoder = VideoDecoder(
            f"file:{self.path}",
            stream_index=container.stream.index,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
        )
        if decoder.metadata.rotation is not None and self._pyav.orientation.is_mirrored:
            raise ValueError("torchcodec rotates, but does not mirror")
        return decoder

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            self._deadline.check()
            yield
        except VideoError:
            raise
        except (OSError, ValueError, LookupError, ArithmeticError, TypeError, MemoryError, RuntimeError) as error:
            if "Could not load libtorchcodec" in str(error):
                raise ConfigError(_MISSING) from error
            raise VideoError(self.path, str(error).strip().split("\n")[0]) from error
