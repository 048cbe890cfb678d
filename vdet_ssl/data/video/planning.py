"""Which packets have to be decoded for which frames: time stamps alone, without a file or a decoder.

Time stamps are integers in units of the video's time base.  A *limit* is the latest time stamp that a wanted frame may
have: the frame is the last one presented at or before it.
"""

from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vdet_ssl.data.video.info import TIME_TOLERANCE_S


class Packet(Protocol):
    """What planning reads of a packet, as PyAV has it.

    Attributes:
        pts, dts: time stamps of presentation and of decoding, None where the file has none.
        duration: of its frame, None where the file does not say.
        is_keyframe: whether decoding can begin with it.
        is_discard: whether its frame is decoded but not presented (cut off by an edit list).
    """

    @property
    def pts(self) -> int | None: ...
    @property
    def dts(self) -> int | None: ...
    @property
    def duration(self) -> int | None: ...
    @property
    def is_keyframe(self) -> bool: ...
    @property
    def is_discard(self) -> bool: ...


@dataclass(frozen=True)
class Plan:
    """What to decode, and where the frames that come out belong.

    Attributes:
        stamps: of presentation, of the packets in order of decoding.
        wanted: time stamp of a frame -> the limits that it was wanted for.
        ranges: (first, last) indices of the packets to decode, in order, without overlap; each begins at a key frame.
    """

    stamps: list[int]
    wanted: dict[int, list[int]]
    ranges: list[tuple[int, int]]


def limits_of_times(
    times_s: ArrayLike, *, origin: int, time_base: Fraction, tolerance_s: float = TIME_TOLERANCE_S
) -> NDArray[np.int64]:
    """Return the limits (T,) of times in seconds (T,) from the first frame, whose time stamp is `origin`."""
    ticks = (np.asarray(times_s, np.float64) + tolerance_s) / float(time_base)
    return origin + np.floor(ticks.clip(0, 2**53)).astype(np.int64)


def split_at_jumps(limits: Sequence[int], jump: float) -> list[Sequence[int]]:
    """Split sorted limits where two neighbours are more than `jump` apart."""
    cuts = [i for i in range(1, len(limits)) if limits[i] - limits[i - 1] > jump]
    return [limits[i:j] for i, j in zip([0, *cuts], [*cuts, len(limits)], strict=True)]


def shown_stamps(packets: Iterable[Packet]) -> list[int]:
    """Return the time stamps of all frames that are presented, sorted."""
    return sorted(p.pts for p in packets if p.pts is not None and not p.is_discard)


def shown_end(packets: Iterable[Packet]) -> int | None:
    """Return the time stamp at which the last frame that is presented ends, as far as known; None: there is none."""
    return max((p.pts + (p.duration or 0) for p in packets if p.pts is not None and not p.is_discard), default=None)


def longest_step(stamps: Sequence[int], default: Fraction) -> int | Fraction:
    """Return the longest step between the last 16 time stamps: the last frame may be as long."""
    return max((b - a for a, b in pairwise(stamps[-16:])), default=default)


def plan(packets: Sequence[Packet], limits: Sequence[int]) -> Plan | None:
    """Plan the decoding of the frames of sorted `limits`.

    Args:
        packets: in order of decoding, beginning with a key frame that is presented at or before the first limit.
    Returns:
        the Plan; None where time stamps are missing, or no frame is presented at or before the first limit.
    """
    stamps = [p.pts for p in packets if p.pts is not None]
    if len(stamps) < len(packets):
        return None
    shown = shown_stamps(packets)
    wanted: dict[int, list[int]] = {}
    for limit in limits:
        position = bisect_right(shown, limit) - 1
        if position < 0:
            return None
        wanted.setdefault(shown[position], []).append(limit)
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    return Plan(stamps, wanted, needed_ranges(stamps, keys, wanted))


def needed_ranges(stamps: Sequence[int], keys: Sequence[int], wanted: Container[int]) -> list[tuple[int, int]]:
    """Return the ranges of packets, as (first, last), that have to be decoded for the time stamps in `wanted`.

    Each begins with the last key frame before a wanted frame in both decoding and presentation order: frames that are
    stored after a key frame but presented before it may refer to earlier ones.

    Args:
        stamps: of presentation, of the packets in order of decoding.
        keys: indices of those that are key frames, ascending.
    """
    ranges: list[tuple[int, int]] = []
    for last in (i for i, stamp in enumerate(stamps) if stamp in wanted):
        stored_before = reversed(keys[: bisect_right(keys, last)])
        first = next((key for key in stored_before if stamps[key] <= stamps[last]), 0)
        if ranges and first <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
    return ranges


class FrameClock:
    """Gives time stamps to frames that are decoded one after another, also where the file has none of presentation.

    Args:
        origin: time stamp of the first frame.
        frame_ticks: how long a frame lasts if all last equally long.
        is_timed: whether the packets' time stamps of presentation can be believed (until one has none).
        is_guessed: whether some are FFmpeg's guesses: a frame may seem to be presented before the one that it follows.
    Attributes:
        stamp, previous: time stamps of the latest frame, and of the one before.
        count: of frames so far.
        longest: the longest step between two of them, at least `frame_ticks`.
    """

    def __init__(self, *, origin: int, frame_ticks: Fraction, is_timed: bool, is_guessed: bool = False) -> None:
        self.stamp = self.previous = origin
        self.count = 0
        self.longest: int | Fraction = frame_ticks
        self._origin, self._frame_ticks, self._is_timed = origin, frame_ticks, is_timed
        self._may_overlap = is_guessed
        self._decoding_stamps: list[int | None] = []
        self._delay = 0  # packets that were stored before the first frame came out, but its own
        self._end = 0

    def see(self, packet: Packet) -> None:
        """Note a packet before it is decoded."""
        if self._is_timed and packet.pts is not None:
            if packet.is_discard:  # the parts that an edit list leaves may overlap by as many frames as are reordered
                self._may_overlap = True
            else:
                self._end = max(self._end, packet.pts + (packet.duration or 0))
        else:
            self._is_timed, self._end = False, 0
        self._decoding_stamps.append(packet.dts)

    def tick(self, pts: int | None) -> None:
        """Go on to the next frame, to which the decoder gave the time stamp `pts`."""
        if self.count == 0:
            self._delay = max(len(self._decoding_stamps) - 1, 0)
        self.previous, self.stamp = self.stamp, self._stamp_of(pts)
        if self._may_overlap:
            self.stamp = max(self.stamp, self.previous)
        self.longest = max(self.longest, self.stamp - self.previous)
        self.count += 1

    @property
    def end(self) -> Fraction:
        """Time stamp at which the latest frame ends."""
        return max(Fraction(self._end), self.stamp + self._frame_ticks)

    def _stamp_of(self, pts: int | None) -> int:
        if self._is_timed and pts is not None:
            return pts
        stamps, own = self._decoding_stamps, self.count + self._delay  # one is presented for each that is stored
        first = stamps[self._delay] if self._delay < len(stamps) else None
        if first is not None and own >= len(stamps):
            return self.stamp + (round(self._frame_ticks) if self.count else 0)
        stamp = stamps[own] if own < len(stamps) else None
        if first is not None and stamp is not None:
            return self._origin + stamp - first
        return self._origin + round(self.count * self._frame_ticks)
