"""Which packets are decoded for which frames: numbers alone."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from vdet_ssl.data.video.planning import (
    FrameClock,
    limits_of_times,
    longest_step,
    needed_ranges,
    plan,
    shown_end,
    split_at_jumps,
)


@dataclass
class Packet:
    pts: int | None
    is_keyframe: bool = False
    is_discard: bool = False
    dts: int | None = None
    duration: int | None = 10


def packets_of(*stamps, keys=(0,), discarded=()):
    return [Packet(s, is_keyframe=i in keys, is_discard=i in discarded) for i, s in enumerate(stamps)]


def test_a_time_is_a_limit_with_some_tolerance():
    limits = limits_of_times([-1.0, 0.0, 1.0, 1.0 - 1e-3, 1.0 - 2e-3], origin=70, time_base=Fraction(1, 1000))
    assert limits.tolist() == [70, 71, 1071, 1070, 1069]


def test_a_wanted_frame_is_the_last_one_presented_at_or_before_its_limit():
    packets = packets_of(0, 30, 10, 20, 40)  # decoded in another order than presented
    assert plan(packets, [0, 9, 15, 39, 1000]).wanted == {0: [0, 9], 10: [15], 30: [39], 40: [1000]}


@pytest.mark.parametrize("packets", [packets_of(0, None, 20), packets_of(50, 60)])
def test_there_is_no_plan_without_time_stamps_or_before_the_first_frame(packets):
    assert plan(packets, [40]) is None


def test_frames_that_an_edit_list_cuts_off_are_decoded_for_others_but_never_wanted():
    planned = plan(packets_of(-20, -10, 0, 10, discarded=(0, 1)), [0, 12])
    assert planned.wanted == {0: [0], 10: [12]} and planned.ranges == [(0, 3)]
    assert plan(packets_of(-20, -10, 0, 10, discarded=(0, 1)), [-5]) is None


def test_decoding_begins_with_the_last_key_frame_before_a_wanted_frame():
    stamps = [10 * i for i in range(12)]
    assert needed_ranges(stamps, [0, 4, 8], {50}) == [(4, 5)]
    assert needed_ranges(stamps, [0, 4, 8], {20, 60, 70, 80}) == [(0, 2), (4, 7), (8, 8)]
    assert needed_ranges(stamps, [0, 4, 8], {30, 20}) == [(0, 3)]
    assert needed_ranges(stamps, [0, 4, 8], set()) == []


def test_frames_presented_before_the_key_frame_that_they_follow_need_the_one_before():
    """An open group of pictures: 30 and 40 are stored after the key frame 50, and refer to frames before it."""
    stamps = [0, 20, 10, 50, 30, 40, 60]
    assert needed_ranges(stamps, [0, 3], {40}) == [(0, 5)]
    assert needed_ranges(stamps, [0, 3], {60}) == [(3, 6)]


def test_what_is_planned_is_enough_and_no_more_than_its_groups():
    rng = np.random.default_rng(0)
    for _ in range(200):
        num_packets = int(rng.integers(1, 40))
        keys = [0, *sorted(set(rng.integers(1, 40, 4).tolist()) & set(range(1, num_packets)))]
        limits = sorted(set(rng.integers(0, 10 * num_packets, 5).tolist()))
        planned = plan(packets_of(*range(0, 10 * num_packets, 10), keys=keys), limits)
        decoded = [i for first, last in planned.ranges for i in range(first, last + 1)]
        assert decoded == sorted(set(decoded)) and {limit // 10 for limit in limits} <= set(decoded)
        assert all(first in keys and last * 10 in planned.wanted for first, last in planned.ranges)
        assert sorted(limit for of_frame in planned.wanted.values() for limit in of_frame) == limits


def test_limits_far_apart_are_reached_one_after_another():
    assert split_at_jumps([0, 5, 10, 16, 40], 5) == [[0, 5, 10], [16], [40]]
    assert split_at_jumps([3], 5) == [[3]]


def test_the_end_is_that_of_the_last_frame_presented():
    assert shown_end([Packet(0), Packet(40), Packet(20, duration=None), Packet(90, is_discard=True)]) == 50
    assert shown_end([Packet(None)]) is None
    assert longest_step([0, 10, 40, 50], Fraction(7)) == 30
    assert longest_step([0], Fraction(7)) == 7


def clock(is_timed):
    return FrameClock(origin=100, frame_ticks=Fraction(5, 2), is_timed=is_timed)


def test_clock_believes_the_decoder_where_the_file_has_times():
    timed = clock(True)
    for pts in (100, 120, 110):
        timed.see(Packet(pts, dts=pts - 50))
    stamps = []
    for pts in (100, 110, 120):
        timed.tick(pts)
        stamps.append(timed.stamp)
    assert stamps == [100, 110, 120]
    assert (timed.previous, timed.count, timed.longest, timed.end) == (110, 3, 10, 130)


def test_clock_without_times_counts_what_is_stored_or_else_frames():
    by_decoding, by_count = clock(False), clock(True)
    stamps = []
    for dts in (7, 17, 37):
        by_decoding.see(Packet(0, dts=dts))
        by_count.see(Packet(None, dts=None))
        by_decoding.tick(0)
        by_count.tick(None)
        stamps.append((by_decoding.stamp, by_count.stamp))
    assert stamps == [(100, 100), (110, 102), (130, 105)]
    assert (by_decoding.longest, by_decoding.end, by_count.end) == (20, 132.5, 107.5)


def test_clock_without_times_knows_how_late_frames_come_out():
    """With two frames of delay, the gap in what is stored is before the second frame, not the fourth."""
    delayed = clock(False)
    stamps = []
    for number, dts in enumerate((0, 10, 20, 50)):
        delayed.see(Packet(0, dts=dts))
        if number >= 2:
            delayed.tick(None)
            stamps.append(delayed.stamp)
    for _ in range(2):  # what the decoder holds at the end
        delayed.tick(None)
        stamps.append(delayed.stamp)
    assert stamps == [100, 130, 132, 134]


def test_clock_goes_on_where_guessed_times_go_back():
    guessing = FrameClock(origin=0, frame_ticks=Fraction(10), is_timed=True, is_guessed=True)
    stamps = []
    for pts in (0, 10, 5, 20):
        guessing.see(Packet(pts, dts=pts))
        guessing.tick(pts)
        stamps.append(guessing.stamp)
    assert stamps == [0, 10, 10, 20]
