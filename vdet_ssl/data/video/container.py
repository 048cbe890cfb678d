"""A video file that is open: its video stream, its decoder, and where the container says that the video ends."""

import functools
import re
from collections.abc import Generator
from contextlib import closing
from fractions import Fraction
from typing import cast

import av
from av.stream import Disposition

from vdet_ssl.data.video.info import TIME_TOLERANCE_S, Deadline, require_file
from vdet_ssl.data.video.structure import is_whole
from vdet_ssl.errors import VideoError

MAX_FRAME_PIXELS = 2**25  # 8K; a damaged header can claim anything
# No time stamps of presentation in these: what FFmpeg fills in is wrong for codecs that reorder frames.
_UNTIMED = {("avi", "h264"), ("avi", "hevc")}
_PACKED_B_FRAMES = rb"DivX\d+(b|Build)\d+p"  # of MPEG-4 in avi: what FFmpeg makes of them is one frame off
_NO_TIME_STAMPS = 0x80  # AVFMT_NOTIMESTAMPS: a raw stream, nothing but frames
_COUNTS_FROM_ZERO = ("matroska,webm", "flv", "asf", "nut")  # their duration does, whenever the first frame is presented
_ESTIMATED = ("mpeg", "ivf")  # FFmpeg's estimate of their duration may lack some frames
_INDEXED = ("avi", "mov,mp4,m4a,3gp,3g2,mj2")
_MOST_AFTER_LAST = 8  # frames that end after the last one begins to be decoded
_PLAYLISTS = ("hls", "concat", "webm_dash_manifest", "dash", "imf", "sdp", "rtp", "rtsp", "sap", "vobsub", "lavfi")
_OPTIONS = {"max_pixels": str(MAX_FRAME_PIXELS)}


class VideoContainer:
    """An open video file.

    Attributes:
        path: of the file.
        stream: the video stream that a player would choose; codec: its decoder, of one thread.
        time_base: seconds (Fraction) that time stamps count.
        fps: average frames a second, as the container has it; 0 where it does not say.
        frame_ticks: duration of a frame if all last equally long, in units of the time base.
        tolerance_s: how late the time stamp of a wanted frame may be, see `info.TIME_TOLERANCE_S`.
        is_raw: whether it is a bare stream of frames, without any time stamps.
        is_timed: whether its time stamps of presentation can be believed.
        is_guessed: whether some of them may be FFmpeg's guesses.
        skips_frames: whether the decoder can leave out single frames that no other refers to.
    Raises:
        VideoError: it is not a file, a playlist, or has no video that can be decoded; or whatever PyAV raises.
    """

    def __init__(self, path: str, deadline: Deadline) -> None:
        self.path = path
        self._deadline = deadline
        self._file = _open(path, deadline)
        self._format = self._file.format.name
        self.stream = self._choose_stream()
        self.codec = self.stream.codec_context
        self._prepare_codec()
        self.time_base = cast(Fraction, self.stream.time_base)  # every stream of a file has one
        self.is_raw = bool(self._file.format.flags & _NO_TIME_STAMPS)
        self.fps = float(self._frame_rate() or 0)
        self.frame_ticks = 1 / (self.stream.guessed_rate or self.stream.average_rate or Fraction(25)) / self.time_base
        self.tolerance_s = min(TIME_TOLERANCE_S, 0.5 / self.fps) if self.fps else TIME_TOLERANCE_S
        names = (self._format, self.codec.codec.canonical_name)
        packed = re.search(_PACKED_B_FRAMES, self.codec.extradata or b"")
        self.is_timed = not (self.is_raw or names in _UNTIMED or packed)
        self.is_guessed = self._format == "mpeg"
        self.skips_frames = self.codec.name != "libdav1d"  # settles once, when it opens, which frames it gives

    def close(self) -> None:
        self._file.close()

    def packets(self) -> Generator[av.Packet]:
        """Yield the video's packets from where the file stands."""
        demuxed = cast(Generator[av.Packet], self._file.demux(self.stream))
        with closing(demuxed):  # dropped unclosed it loses memory
            for packet in demuxed:
                self._deadline.check()
                if self.is_raw:
                    packet.pts = packet.dts = None  # FFmpeg's guesses
                if packet.size:
                    yield packet

    def seek(self, stamp: int) -> None:
        """Go to a key frame that is, if the file can tell, at or before a time stamp."""
        self._file.seek(stamp, stream=self.stream)

    def promised_end(self, origin: int, first_dts: int | None) -> tuple[int | None, bool]:
        """Return the time stamp at which the file says the video ends, or None, and whether it is the video's own.

        An avi's duration shrinks with the file when that is cut short, the ticks that its header counts, from 0, do not.
        Matroska has the end of the whole file and, written by most but not by all, that of each stream as a tag.

        Args:
            origin: time stamp of the first frame.
            first_dts: time stamp of decoding of the first packet.
        """
        if self.is_raw:
            return None, False
        if self._format == "avi" and self.stream.frames:
            return origin + self.stream.frames - (first_dts or 0), True
        if self.stream.duration and self._format in _COUNTS_FROM_ZERO:  # it is the file's
            return self.stream.duration, False
        if self.stream.duration:
            end = origin + self.stream.duration
            # An edit list may claim more than there is.
            latest = self._last_indexed(default=end) + _MOST_AFTER_LAST * self.frame_ticks
            return end, end <= latest and self._format not in _ESTIMATED
        clock = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", self.stream.metadata.get("DURATION", ""))
        if clock:
            hours, minutes, seconds = map(Fraction, clock.groups())
            return int((hours * 3600 + minutes * 60 + seconds) / self.time_base), True
        if not self._file.duration or self._file.duration < 0:
            return None, False
        ticks = int(Fraction(self._file.duration, av.time_base) / self.time_base)
        return ticks if self._format in _COUNTS_FROM_ZERO else origin + ticks, False

    def _last_indexed(self, default: int) -> int:
        """Return when the last frame in an mp4's or avi's index is decoded."""
        if self._format not in _INDEXED:
            return default
        entries = self.stream.index_entries
        backwards = (entries[i] for i in range(len(entries) - 1, -1, -1))
        return next((entry.timestamp for entry in backwards if not entry.is_discard), default)

    def is_cut_short(self, end: int | Fraction, is_own: bool) -> bool:
        """Whether a file whose frames end at time stamp `end`, before the promised end, has lost something.

        Args:
            is_own: whether that promise is the video's own.
        """
        if self._format == "avi":  # which is indexed at its end, or else by what has been read
            return self._last_indexed(default=0) + 1 + self.frame_ticks < self.stream.frames
        whole = is_whole(self.path, self._format)
        if whole is not None:
            return not whole
        return is_own or not self.others_go_on(end)

    def others_go_on(self, end: int | Fraction) -> bool:
        """Whether other streams, sound say, have anything after time stamp `end`: then the video alone is short."""
        with _open(self.path, self._deadline) as file:
            others = [s for s in file.streams if s.index != self.stream.index and s.type in ("audio", "video")]
            packets = file.demux(*others) if others else ()
            return any(
                p.pts is not None and p.pts * cast(Fraction, p.time_base) > end * self.time_base for p in packets
            )

    def _choose_stream(self) -> av.VideoStream:
        if self._format.endswith("_pipe") or self._format == "image2":
            raise VideoError(self.path, "a still image, not a video")
        best = self._file.streams.best("video")
        candidates = [s for s in (best, *self._file.streams.video) if isinstance(s, av.VideoStream)]
        streams = [s for s in candidates if not s.disposition & Disposition.attached_pic]
        if not streams or streams[0].codec_context is None:
            raise VideoError(self.path, "no video stream that can be decoded")
        return streams[0]

    def _frame_rate(self) -> Fraction | None:
        """An avi's header may count finer ticks than frames; a raw stream's average is a default."""
        average, guessed = self.stream.average_rate, self.stream.guessed_rate
        if self._format == "avi" and average and guessed:
            return min(average, guessed)
        return guessed or average if self.is_raw else average or guessed

    def _prepare_codec(self) -> None:
        codec = self.codec
        if codec.width * codec.height > MAX_FRAME_PIXELS:
            raise VideoError(self.path, f"{codec.width} x {codec.height} pixels are more than is decoded (8K)")
        codec.options = _OPTIONS
        codec.thread_type = "NONE"  # a packet's skip_frame must not reach others
        codec.thread_count = 1


def _open(path: str, deadline: Deadline) -> av.container.InputContainer:
    """Open a local file, whatever its name looks like, that refers to no other."""
    require_file(path)
    restrictions = {"protocol_whitelist": "file", "format_whitelist": _formats()}
    try:
        return av.open(
            f"file:{path}",
            options=_OPTIONS,
            container_options=restrictions,
            timeout=deadline.left_s,
            metadata_errors="replace",
        )
    except av.ArgumentError as error:
        raise VideoError(path, "not a video (playlists are not read)") from error


@functools.cache
def _formats() -> str:
    """All formats that FFmpeg reads but those that refer to other files."""
    return ",".join(sorted(av.formats_available - set(_PLAYLISTS)))
