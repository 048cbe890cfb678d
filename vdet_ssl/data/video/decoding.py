"""From packets to frames: those that are wanted, decoding as little as that takes, or all in order.

The packets around the wanted times are read first.  Their time stamps say which frames are wanted and from which key
frames on they have to be decoded; everything else is left out, and so are, in between, frames that no other refers to.
Should the frames that come out not be those that the packets announced (packets that show nothing, time stamps that are
missing or wrong), all frames are decoded from the start and taken in the order in which they come.
"""

from collections.abc import Container, Iterator, Sequence
from itertools import chain

import av

from vdet_ssl.data.video.clip_buffer import ClipBuffer
from vdet_ssl.data.video.packets import JUMP_S, PacketReader
from vdet_ssl.data.video.planning import FrameClock, plan, split_at_jumps
from vdet_ssl.errors import VideoError

_NO_FRAME = "not one frame can be decoded"


def fill(buffer: ClipBuffer, packets: PacketReader) -> None:
    """Decode all frames that a buffer asks for; VideoError where that is not possible."""
    spans = split_at_jumps(buffer.limits, JUMP_S / packets.container.time_base)
    if not packets.container.is_timed or not all(_decode_announced(packets, span, buffer) for span in spans):
        _decode_in_order(packets, buffer)


def _decode_announced(packets: PacketReader, limits: Sequence[int], buffer: ClipBuffer) -> bool:
    """Decode the frames that packets announce for `limits` into `buffer`; whether that was possible."""
    span = packets.read_span(limits[0], limits[-1])
    planned = plan(span, limits)
    if planned is None:
        return False
    wanted, found = planned.wanted, set()
    for first, last in planned.ranges:
        for frame in _decode_range(packets, span[first : last + 1], planned.stamps[first], wanted):
            if frame.is_corrupt:  # damaged, or only a false key frame
                return False
            if frame.pts in wanted:  # of several frames at one time the last one stays
                buffer.put(frame, wanted[frame.pts])
                found.add(frame.pts)
    return len(found) == len(wanted)


def _decode_range(
    packets: PacketReader, span: Sequence[av.Packet], key_stamp: int, wanted: Container[int | None]
) -> Iterator[av.VideoFrame]:
    """Decode packets from a key frame on; yield the frames that are presented from it, at `key_stamp`, on."""
    codec, deadline = packets.container.codec, packets.deadline
    codec.flush_buffers()
    for packet in chain(span, [None]):
        deadline.check()
        is_needed = packet is None or packet.pts in wanted or not packets.container.skips_frames
        codec.skip_frame = "DEFAULT" if is_needed else "NONREF"
        yield from (frame for frame in codec.decode(packet) if frame.pts is not None and frame.pts >= key_stamp)


def _decode_in_order(packets: PacketReader, buffer: ClipBuffer) -> None:
    """Decode all frames from the start, until those that `buffer` wants are there."""
    pending, previous = list(buffer.limits), None
    for stamp, frame in frames_in_order(packets, pending[-1]):
        while pending and pending[0] < stamp:
            buffer.put(previous or frame, [pending.pop(0)])
        if not pending:
            return
        previous = frame
    if previous is not None:
        buffer.put(previous, pending)


def frames_in_order(packets: PacketReader, last: float) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield all frames from the start with their time stamps.

    Args:
        last: the latest time stamp that is wanted, for the check that the file does not end too early.
    Raises:
        VideoError: a frame is damaged or out of order, or the file ends before what it promises and is wanted.
    """
    source = packets.rewind()
    container = packets.container
    clock = FrameClock(
        origin=packets.origin,
        frame_ticks=container.frame_ticks,
        is_timed=container.is_timed,
        is_guessed=container.is_guessed,
    )
    for packet in chain(source, [None]):
        if packet is not None:
            clock.see(packet)
        for frame in container.codec.decode(packet):
            clock.tick(frame.pts)
            if frame.is_corrupt:
                raise VideoError(packets.path, f"damaged frame at {packets.seconds(clock.stamp):.3f} s")
            if clock.stamp < clock.previous:
                raise VideoError(packets.path, "time stamps go backwards")
            yield clock.stamp, frame
    if clock.count == 0:
        raise VideoError(packets.path, _NO_FRAME)
    packets.check_end(last, clock.end, clock.longest)


def first_frame(packets: PacketReader) -> av.VideoFrame:
    """Decode the first frame; VideoError if there is none."""
    source = packets.head or packets.rewind()
    codec = packets.container.codec
    codec.flush_buffers()
    codec.skip_frame = "DEFAULT"
    frames = (frame for packet in chain(source, [None]) for frame in codec.decode(packet))
    frame = next(frames, None)
    if frame is None:
        raise VideoError(packets.path, _NO_FRAME)
    return frame
