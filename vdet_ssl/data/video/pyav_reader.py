"""Reading video with PyAV, which carries its own FFmpeg: the default backend of `vdet_ssl.data.video.reader`.

The packets around the wanted times are read first.  Their time stamps say which frames are wanted and from which key
frames on they have to be decoded; everything else is left out, and so are, in between, frames that no other refers to.
Should the frames that come out not be those that the packets announced (packets that show nothing, time stamps that are
missing or wrong), all frames are decoded from the start and taken in the order in which they come.
"""

import re
import time
from bisect import bisect_right
from contextlib import closing, contextmanager
from fractions import Fraction
from functools import cached_property
from itertools import chain, islice

import av
import numpy as np
from av.stream import Disposition

from vdet_ssl.data.video.clip_buffer import ClipBuffer, read_orientation, turn
from vdet_ssl.data.video.reader import TIME_TOLERANCE_S, VideoInfo
from vdet_ssl.errors import VideoError

JUMP_S = 5.0  # wanted times further apart than this are reached by a seek rather than by reading on
MAX_FRAME_PIXELS = 2**25  # 8K; a damaged header can claim anything
MAX_COMPRESSED_BYTES = 2**28  # packets held at once
# No time stamps of presentation in these: what FFmpeg fills in is wrong for codecs that reorder frames.
_UNTIMED = {("avi", "h264"), ("avi", "hevc"), ("h264", "h264"), ("hevc", "hevc")}
_PACKED_B_FRAMES = rb"DivX\d+(b|Build)\d+p"  # of MPEG-4 in avi: what FFmpeg makes of them is one frame off


class PyAVReader:
    """See `vdet_ssl.data.video.reader.open_video`."""

    def __init__(self, path, timeout_s):
        self.path = str(path)
        self._deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
        self._container = self._demuxer = None
        with self._errors_named():
            self._open()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._demuxer is not None:
            self._demuxer.close()
        if self._container is not None:
            self._container.close()
        self._container = self._demuxer = None  # the generator refers to self: a cycle that would outlive the reader

    @cached_property
    def duration_s(self):
        """Seconds from the presentation of the first frame to the end of the last, as the container has it."""
        with self._errors_named():
            end, _ = self._promised_end()
            if end is None:
                stamps = [(p.pts, p.duration or 0) for p in self._rewound() if _is_shown(p)]
                end = max((pts + duration for pts, duration in stamps), default=self._origin)
            return float((end - self._origin) * self.time_base)

    @property
    def fps(self):
        """Average frames a second, as the container has it; 0 where it does not say."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    @cached_property
    def info(self):
        """The VideoInfo.  `duration_s` and `fps` are there for less: size and rotation take the decoding of a frame."""
        with self._errors_named():
            frame = self._first_frame()
            return self._describe(frame, self.duration_s, self.fps, self._stream.frames or None)

    def measure(self):
        """Decode all frames; return the VideoInfo with exact duration, frames and frame rate, or raise VideoError."""
        count, end_s, formats = 0, Fraction(0), set()
        for time_s, frame in self.frames():
            end_s, count = time_s, count + 1
            formats.add((frame.width, frame.height, frame.format.name))
            if len(formats) > 1:
                self._fail("frame size or pixel format changes within the video")
        with self._errors_named():
            frame_s = end_s / (count - 1) if count > 1 else self._frame_ticks() * self.time_base
            end_s += frame_s  # the last frame, too, lasts as long as they do on average
            return self._describe(frame, float(end_s), float(1 / frame_s), count)

    def frames(self):
        """Yield all frames in the order of presentation: seconds from the first one (Fraction), and av.VideoFrame.

        Raises VideoError where one cannot be decoded, and at the end if the container promises more.
        """
        with self._errors_named():
            for stamp, frame in self._frames_in_order(np.inf):
                yield (stamp - self._origin) * self.time_base, frame

    def decode_clips(self, times_s, pixel_format):
        """See `vdet_ssl.data.video.reader.decode_clips`; can be called again for other clips of the video."""
        with self._errors_named():
            ticks = [(times + TIME_TOLERANCE_S) / float(self.time_base) for times in times_s]
            limits = [self._origin + np.floor(t.clip(0, 2**53)).astype(np.int64) for t in ticks]
            return self._decode(limits, pixel_format).clips()

    def check_end(self, last_s, end_s):
        """Fail if the video ends at `end_s` although its container promises more, and times up to `last_s` are wanted.

        Times in seconds from the first frame; raises VideoError.
        """
        with self._errors_named():
            last, end = (self._origin + Fraction(seconds) / self.time_base for seconds in (last_s, end_s))
            self._check_end(last, end, self._frame_ticks())

    @contextmanager
    def _errors_named(self):
        """Turn whatever the libraries raise on a damaged file into a VideoError."""
        try:
            yield
        except VideoError:
            self.close()
            raise
        except (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise VideoError(self.path, reason) from error

    def _describe(self, frame, duration_s, fps, num_frames):
        orientation, rotation = read_orientation(frame)
        height, width = turn(np.empty((frame.height, frame.width), np.uint8), orientation).shape
        codec = self._codec.codec.canonical_name
        return VideoInfo(duration_s, fps, num_frames, width, height, codec, rotation)

    def _first_frame(self):
        packets = self._head or self._rewound()
        self._codec.flush_buffers()
        self._codec.skip_frame = "DEFAULT"
        frames = (frame for packet in chain(packets, [None]) for frame in self._codec.decode(packet))
        return next(frames, None) or self._fail("not one frame can be decoded")

    def _fail(self, reason):
        raise VideoError(self.path, reason)

    def _open(self):
        """Open the file, or open it anew, and read its first packets."""
        self.close()
        left_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.001)
        options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        self._container = av.open(self.path, options=options, timeout=left_s, metadata_errors="replace")
        if self._container.format.name.endswith("_pipe") or self._container.format.name == "image2":
            self._fail("a still image, not a video")
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams or streams[0].codec_context is None:
            self._fail("no video stream that can be decoded")
        self._stream = streams[0]
        self._codec = self._stream.codec_context
        if self._codec.width * self._codec.height > MAX_FRAME_PIXELS:
            self._fail(f"{self._codec.width} x {self._codec.height} pixels are more than is decoded (8K)")
        self._codec.options = options
        self._codec.thread_type = "NONE"  # a packet's skip_frame must not reach others
        self._codec.thread_count = 1
        self.time_base = self._stream.time_base
        names = (self._container.format.name, self._codec.codec.canonical_name)
        self._is_untimed = names in _UNTIMED or bool(re.search(_PACKED_B_FRAMES, self._codec.extradata or b""))
        self._demuxer = self._packets()
        self._head = self._read_head()
        self._origin = min((p.pts for p in self._head if _is_shown(p)), default=0)

    def _packets(self):
        """Yield the packets from where the container stands."""
        with closing(self._container.demux(self._stream)) as packets:  # dropped unclosed it loses memory
            for packet in packets:
                self._check_deadline()
                if packet.size:
                    yield packet

    def _check_deadline(self):
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._fail("decoding took too long (DATALOADER.DECODE_TIMEOUT_S)")

    def _read_head(self):
        """Read until no frame that comes can be presented before those already seen."""
        head, origin = [], None
        for packet in islice(self._demuxer, 64):  # codecs reorder 16 frames at most
            head.append(packet)
            if _is_shown(packet):
                origin = packet.pts if origin is None else min(origin, packet.pts)
            if origin is not None and packet.dts is not None and packet.dts >= origin:
                break
        return head

    def _rewound(self):
        """Open the file anew and yield all its packets."""
        self._open()
        head, self._head = self._head, []
        return chain(head, self._demuxer)

    def _decode(self, limits, pixel_format):
        if self._container is None:  # closed by an error
            self._open()
        buffer = ClipBuffer(limits, pixel_format)
        if self._is_untimed or not all(
            self._decode_announced(span, buffer) for span in _split(buffer.limits, JUMP_S / self.time_base)
        ):
            self._decode_in_order(buffer)
        return buffer

    def _decode_announced(self, limits, buffer):
        """Decode the frames that packets announce for `limits` into `buffer`; whether that was possible."""
        packets = self._read_span(limits[0], limits[-1])
        if any(p.pts is None for p in packets):
            return False
        stamps = sorted(p.pts for p in packets if _is_shown(p))
        wanted = {}
        for limit in limits:
            position = bisect_right(stamps, limit) - 1
            if position < 0:
                return False
            wanted.setdefault(stamps[position], []).append(limit)
        for first, last in _needed_ranges(packets, wanted):
            for frame in self._decode_range(packets[first : last + 1], wanted):
                if frame.is_corrupt:  # damaged, or only a false key frame
                    return False
                if frame.pts in wanted:
                    buffer.put(frame, wanted.pop(frame.pts))
        return not wanted

    def _decode_range(self, packets, wanted):
        """Decode packets from a key frame on; yield the frames that are presented from it on."""
        self._codec.flush_buffers()
        key_stamp = packets[0].pts
        for packet in chain(packets, [None]):
            self._check_deadline()
            is_wanted = packet is None or packet.pts in wanted
            self._codec.skip_frame = "DEFAULT" if is_wanted else "NONREF"
            yield from (frame for frame in self._codec.decode(packet) if frame.pts >= key_stamp)

    def _read_span(self, first, last):
        """Read the packets from a key frame presented at or before `first` until all up to `last` are there."""
        jump = round(JUMP_S / self.time_base)
        if self._head and first - self._origin < jump:
            head, self._head = self._head, []
            return self._read_until(last, chain(head, self._demuxer))
        for back in (0, jump // 4, jump, 4 * jump):
            try:
                self._container.seek(first - back, stream=self._stream)
            except (av.FFmpegError, OverflowError):
                break
            packets = self._read_until(last, self._packets())
            if any(p.is_keyframe and p.pts is not None and p.pts <= first for p in packets):
                return packets
        return self._read_until(last, self._rewound())

    def _read_until(self, last, source):
        packets, size = [], 0
        for packet in source:
            packets.append(packet)
            size += packet.size
            if size > MAX_COMPRESSED_BYTES:
                self._fail(f"more than {MAX_COMPRESSED_BYTES >> 20} MB from a key frame to a wanted frame")
            if packet.dts is not None and packet.dts > last:
                return packets
        shown = [p for p in packets if _is_shown(p)]
        if shown:
            stamps = sorted(p.pts for p in shown)
            longest = max(np.diff(stamps[-16:]), default=self._frame_ticks())  # of late; the last frame may be as long
            self._check_end(last, max(p.pts + (p.duration or 0) for p in shown), longest)
        return packets

    def _decode_in_order(self, buffer):
        """Decode all frames from the start, until those that `buffer` wants are there."""
        pending, previous = list(buffer.limits), None
        for stamp, frame in self._frames_in_order(pending[-1]):
            while pending and pending[0] < stamp:
                buffer.put(previous or frame, [pending.pop(0)])
            if not pending:
                return
            previous = frame
        buffer.put(previous, pending)

    def _frames_in_order(self, last):
        """Yield all frames with their time stamps; at the end `_check_end`, of which `last` is an argument."""
        is_timed = not self._is_untimed
        stamps, count, stamp, end, longest = [], 0, self._origin, 0, self._frame_ticks()
        for packet in chain(self._rewound(), [None]):
            if packet is not None:
                is_timed = is_timed and packet.pts is not None
                end = max(end, packet.pts + (packet.duration or 0)) if is_timed else 0
                stamps.append(packet.dts)
            for frame in self._codec.decode(packet):
                previous = stamp
                if is_timed:
                    stamp = frame.pts
                elif count < len(stamps) and None not in (stamps[0], stamps[count]):
                    stamp = self._origin + stamps[count] - stamps[0]  # one is shown for each that is stored
                else:
                    stamp = self._origin + round(count * self._frame_ticks())
                if frame.is_corrupt:
                    self._fail(f"damaged frame at {float((stamp - self._origin) * self.time_base):.3f} s")
                if stamp < previous:
                    self._fail("time stamps go backwards")
                longest = max(longest, stamp - previous)
                count += 1
                yield stamp, frame
        if count == 0:
            self._fail("not one frame can be decoded")
        self._check_end(last, max(end, stamp + self._frame_ticks()), longest)

    def _frame_ticks(self):
        """Duration of a frame of a video whose frame rate is constant, in units of the time base."""
        return 1 / (self._stream.guessed_rate or self._stream.average_rate or 25) / self.time_base

    def _check_end(self, last, end, slack):
        """Fail if the frames end at time stamp `end`, more than `slack` before what the container promises.

        Unless none is wanted after the end: up to `last`.
        """
        promised, is_own = self._promised_end()
        if last < end or promised is None or promised <= end + slack:
            return
        if is_own or not self._others_go_on(end + slack):
            end_s, promised_s = (float((stamp - self._origin) * self.time_base) for stamp in (end, promised))
            self._fail(f"ends at {end_s:.2f} s, its container says {promised_s:.2f} s")

    def _promised_end(self):
        """Return the time stamp at which the container says the video ends, or None, and whether it is the video's own.

        An avi's duration shrinks with the file when that is cut short, the number of frames in its header does not.
        Matroska has the end of the whole file and, written by most but not by all, that of each stream as a tag.
        """
        if self._container.format.name == "avi" and self._stream.frames:
            return self._origin + round(self._stream.frames * self._frame_ticks()), True
        if self._stream.duration:
            return self._origin + self._stream.duration, True
        clock = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", self._stream.metadata.get("DURATION", ""))
        if clock:
            hours, minutes, seconds = map(Fraction, clock.groups())
            return int((hours * 3600 + minutes * 60 + seconds) / self.time_base), True
        if not self._container.duration or self._container.duration < 0:
            return None, False
        ticks = int(Fraction(self._container.duration, av.time_base) / self.time_base)
        is_absolute = self._container.format.name == "matroska,webm"
        return ticks if is_absolute else self._origin + ticks, False

    def _others_go_on(self, end):
        """Whether other streams, sound say, have anything after time stamp `end`: then the video alone is short."""
        with av.open(self.path, metadata_errors="replace") as container:
            others = [s for s in container.streams if s.index != self._stream.index and s.type in ("audio", "video")]
            packets = container.demux(*others) if others else ()
            return any(p.pts is not None and p.pts * p.time_base > end * self.time_base for p in packets)


def _is_shown(packet):
    """Whether a packet's frame is presented, rather than cut off by an edit list."""
    return packet.pts is not None and not packet.is_discard


def _split(limits, jump):
    """Split sorted time stamps where two neighbours are more than `jump` apart."""
    cuts = [i for i in range(1, len(limits)) if limits[i] - limits[i - 1] > jump]
    return [limits[i:j] for i, j in zip([0, *cuts], [*cuts, len(limits)], strict=True)]


def _needed_ranges(packets, wanted):
    """Return the ranges of packets, as (first, last), that have to be decoded for the time stamps in `wanted`.

    Each begins with the last key frame before a wanted frame in both decoding and presentation order: frames that are
    stored after a key frame but presented before it may refer to earlier ones.
    """
    ranges = []
    for last in (i for i, packet in enumerate(packets) if packet.pts in wanted):
        first = next(
            (i for i in range(last, 0, -1) if packets[i].is_keyframe and packets[i].pts <= packets[last].pts), 0
        )
        if ranges and first <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
    return ranges
