"""A video file that is open: its video stream, its decoder, and where the container says that the video ends."""

import re
from collections.abc import Generator
from contextlib import closing
from fractions import Fraction
from typing import cast

import av
from av.stream import Disposition

from vdet_ssl.data.video.info import Deadline
from vdet_ssl.errors import VideoError

MAX_FRAME_PIXELS = 2**25  # 8K; a damaged header can claim anything
# No time stamps of presentation in these: what FFmpeg fills in is wrong for codecs that reorder frames.
_UNTIMED = {("avi", "h264"), ("avi", "hevc"), ("h264", "h264"), ("hevc", "hevc")}
_PACKED_B_FRAMES = rb"DivX\d+(b|Build)\d+p"  # of MPEG-4 in avi: what FFmpeg makes of them is one frame off
_OPTIONS = {"max_pixels": str(MAX_FRAME_PIXELS)}


class VideoContainer:
    """An open video file.

    Attributes:
        path: of the file.
        stream: the first video stream, cover pictures aside; codec: its decoder, of one thread.
        time_base: seconds (Fraction) that time stamps count.
        fps: average frames a second, as the container has it; 0 where it does not say.
        frame_ticks: duration of a frame if all last equally long, in units of the time base.
        is_timed: whether its time stamps of presentation can be believed.
    Raises:
        VideoError: it has no video that can be decoded; or whatever PyAV raises.
    """

    def __init__(self, path: str, deadline: Deadline) -> None:
        self.path = path
        self._deadline = deadline
        self._file = av.open(path, options=_OPTIONS, timeout=deadline.left_s, metadata_errors="replace")
        self._format = self._file.format.name
        self.stream = self._choose_stream()
        self.codec = self.stream.codec_context
        self._prepare_codec()
        self.time_base = cast(Fraction, self.stream.time_base)  # every stream of a file has one
        self.fps = float(self.stream.average_rate or self.stream.guessed_rate or 0)
        self.frame_ticks = 1 / (self.stream.guessed_rate or self.stream.average_rate or Fraction(25)) / self.time_base
        names = (self._format, self.codec.codec.canonical_name)
        self.is_timed = names not in _UNTIMED and not re.search(_PACKED_B_FRAMES, self.codec.extradata or b"")

    def close(self) -> None:
        self._file.close()

    def packets(self) -> Generator[av.Packet]:
        """Yield the video's packets from where the file stands."""
        demuxed = cast(Generator[av.Packet], self._file.demux(self.stream))
        with closing(demuxed):  # dropped unclosed it loses memory
            for packet in demuxed:
                self._deadline.check()
                if packet.size:
                    yield packet

    def seek(self, stamp: int) -> None:
        """Go to a key frame that is, if the file can tell, at or before a time stamp."""
        self._file.seek(stamp, stream=self.stream)

    def promised_end(self, origin: int) -> tuple[int | None, bool]:
        """Return the time stamp at which the file says the video ends, or None, and whether it is the video's own.

        An avi's duration shrinks with the file when that is cut short, the number of frames in its header does not.
        Matroska has the end of the whole file and, written by most but not by all, that of each stream as a tag.

        Args:
            origin: time stamp of the first frame.
        """
        if self._format == "avi" and self.stream.frames:
            return origin + round(self.stream.frames * self.frame_ticks), True
        if self.stream.duration:
            return origin + self.stream.duration, True
        clock = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", self.stream.metadata.get("DURATION", ""))
        if clock:
            hours, minutes, seconds = map(Fraction, clock.groups())
            return int((hours * 3600 + minutes * 60 + seconds) / self.time_base), True
        if not self._file.duration or self._file.duration < 0:
            return None, False
        ticks = int(Fraction(self._file.duration, av.time_base) / self.time_base)
        is_absolute = self._format == "matroska,webm"
        return ticks if is_absolute else origin + ticks, False

    def others_go_on(self, end: int | Fraction) -> bool:
        """Whether other streams, sound say, have anything after time stamp `end`: then the video alone is short."""
        with av.open(self.path, metadata_errors="replace") as file:
            others = [s for s in file.streams if s.index != self.stream.index and s.type in ("audio", "video")]
            packets = file.demux(*others) if others else ()
            return any(
                p.pts is not None and p.pts * cast(Fraction, p.time_base) > end * self.time_base for p in packets
            )

    def _choose_stream(self) -> av.VideoStream:
        if self._format.endswith("_pipe") or self._format == "image2":
            raise VideoError(self.path, "a still image, not a video")
        streams = [s for s in self._file.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams or streams[0].codec_context is None:
            raise VideoError(self.path, "no video stream that can be decoded")
        return streams[0]

    def _prepare_codec(self) -> None:
        codec = self.codec
        if codec.width * codec.height > MAX_FRAME_PIXELS:
            raise VideoError(self.path, f"{codec.width} x {codec.height} pixels are more than is decoded (8K)")
        codec.options = _OPTIONS
        codec.thread_type = "NONE"  # a packet's skip_frame must not reach others
        codec.thread_count = 1
