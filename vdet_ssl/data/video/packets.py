"""Reading the packets of a video: from its start, or those around wanted time stamps."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice

import av
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vdet_ssl.data.video.container import VideoContainer
from vdet_ssl.data.video.info import TIME_TOLERANCE_S, Deadline
from vdet_ssl.data.video.planning import limits_of_times, longest_step, shown_end, shown_stamps
from vdet_ssl.errors import VideoError

JUMP_S = 5.0  # wanted times further apart than this are reached by a seek rather than by reading on
MAX_COMPRESSED_BYTES = 2**28  # packets held at once
_HEAD_PACKETS = 64  # codecs reorder 16 frames at most


class PacketReader:
    """The packets of a video, as often as wanted; every pass from the start opens the file again.

    Args:
        path: of the file.
        deadline: when reading ends in a TimeoutError.
    Attributes:
        container: the open file; another one after `rewind`.
        origin: time stamp of the first frame that is presented.
        head: the first packets, as long as nothing else has been read.
    """

    def __init__(self, path: str, deadline: Deadline) -> None:
        self.path, self.deadline = path, deadline
        self._open()

    def _open(self) -> None:
        self.container = VideoContainer(self.path, self.deadline)
        self._rest = self.container.packets()
        self.head = self._read_head()
        self.origin = min(shown_stamps(self.head), default=0)
        self._first_dts = self.head[0].dts if self.head else None
        self.jump = round(JUMP_S / self.container.time_base)
        self._steps_back = (0, self.jump // 4, self.jump, 4 * self.jump)  # of seeks that lead too far

    def _read_head(self) -> list[av.Packet]:
        """Read until no frame that comes can be presented before those already seen."""
        head: list[av.Packet] = []
        for packet in islice(self._rest, _HEAD_PACKETS):
            head.append(packet)
            if packet.dts is not None and packet.dts >= min(shown_stamps(head), default=packet.dts + 1):
                break
        return head

    def close(self) -> None:
        self._rest.close()
        self.container.close()

    def rewind(self) -> Iterator[av.Packet]:
        """Open the file again and yield all its packets."""
        self.close()
        self._open()
        return self._from_start()

    def _from_start(self) -> Iterator[av.Packet]:
        head, self.head = self.head, []
        return chain(head, self._rest)

    def read_span(self, first: int, last: int) -> list[av.Packet]:
        """Read the packets from a key frame presented at or before `first` until all up to `last` are there.

        Raises:
            VideoError: they are too many to hold, or the file ends before what it promises (`check_end`).
        """
        if self.head and first - self.origin < self.jump:
            return self._read_until(last, self._from_start())
        for back in self._steps_back:
            try:
                self.container.seek(first - back)
            except (av.FFmpegError, OverflowError):
                break
            packets = self._read_until(last, self.container.packets())
            if any(p.is_keyframe and p.pts is not None and p.pts <= first for p in packets):
                return packets
        return self._read_until(last, self.rewind())

    def _read_until(self, last: int, source: Iterable[av.Packet]) -> list[av.Packet]:
        packets, size = [], 0
        for packet in source:
            packets.append(packet)
            size += packet.size
            if size > MAX_COMPRESSED_BYTES:
                limit_mb = MAX_COMPRESSED_BYTES >> 20
                raise VideoError(self.path, f"more than {limit_mb} MB from a key frame to a wanted frame")
            if packet.dts is not None and packet.dts > last and not packet.is_discard:
                return packets  # what an edit list cuts off is stored, with later stamps, before what follows the cut
        end = shown_end(packets)
        if end is not None:
            self.check_end(last, end, longest_step(shown_stamps(packets), self.container.frame_ticks))
        return packets

    def check_end(self, last: float | Fraction, end: int | Fraction, slack: int | Fraction) -> None:
        """Fail if the frames end at time stamp `end`, more than `slack` before what the container promises.

        Unless none is wanted after the end: up to `last`.
        """
        promised, is_own = self.container.promised_end(self.origin, self._first_dts)
        if last < end or promised is None or promised <= end + slack:
            return
        if self.container.is_cut_short(end + slack, is_own):
            raise VideoError(
                self.path, f"ends at {self.seconds(end):.2f} s, its container says {self.seconds(promised):.2f} s"
            )

    def find_end(self) -> int | None:
        """Return the time stamp at which the last frame ends; None: there is none.

        A promise that is not the video's own (of a file whose sound is longer, say) counts only as far as the last
        packets bear it out.
        """
        promised, is_own = self.container.promised_end(self.origin, self._first_dts)
        if promised is not None and is_own:
            return promised
        end = self._end_of(self.rewind()) if promised is None else self._end_near(promised)
        if promised is None or end is None or abs(promised - end) > self.container.frame_ticks + self._tolerance:
            return end
        return promised

    @property
    def _tolerance(self) -> Fraction:
        return Fraction(TIME_TOLERANCE_S) / self.container.time_base

    def _end_near(self, promised: int) -> int | None:
        self.head = []
        for back in self._steps_back:
            try:
                self.container.seek(promised - back)
            except (av.FFmpegError, OverflowError):
                break
            end = shown_end(self.container.packets())
            if end is not None:
                return end
        return self._end_of(self.rewind())

    def _end_of(self, packets: Iterable[av.Packet]) -> int | None:
        if not self.container.is_raw:
            return shown_end(packets)
        default = round(self.container.frame_ticks)
        return self.origin + sum(packet.duration or default for packet in packets)

    def limits_of(self, times_s: ArrayLike) -> NDArray[np.int64]:
        """Return the limits (see `planning`) of times in seconds (T,) from the first frame."""
        container = self.container
        return limits_of_times(
            times_s, origin=self.origin, time_base=container.time_base, tolerance_s=container.tolerance_s
        )

    def seconds(self, stamp: int | Fraction) -> float:
        """Return the seconds from the first frame to a time stamp."""
        return float((stamp - self.origin) * self.container.time_base)
