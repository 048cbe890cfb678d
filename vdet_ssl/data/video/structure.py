"""Whether a file of a container that is a chain of elements holds all of the last one, or was cut within it."""

import os
from collections.abc import Callable
from typing import BinaryIO

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675  # Matroska's; both may be of unknown size
_MAX_ID_BYTES, _MAX_SIZE_BYTES = 4, 8
_FLV_HEADER_BYTES, _FLV_TAG_BYTES, _FLV_TRAILER_BYTES = 9, 11, 4
_FLV_TAGS = (8, 9, 18)  # sound, video, metadata


def is_whole(path: str, container_format: str) -> bool | None:
    """Return whether no bytes are missing at the end of a file; None: this container does not tell.

    Args:
        path: of the file.
        container_format: FFmpeg's name of its container.
    """
    walk = _WALKS.get(container_format)
    if walk is None:
        return None
    with open(path, "rb") as file:
        return walk(file, os.path.getsize(path))


def _walk_mp4(file: BinaryIO, num_bytes: int) -> bool | None:
    """Go from box to box (ISO/IEC 14496-12); nothing says how many fragments there should be."""
    position = 0
    while position < num_bytes:
        file.seek(position)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4]), header[4:8]
        if kind == b"moof":
            return None
        if size == 1:
            size = int.from_bytes(header[8:])
        if size < 8:  # 0: to the end of the file
            return None if size == 0 and kind == b"mdat" else False
        position += size
    return position == num_bytes


def _walk_matroska(file: BinaryIO, num_bytes: int) -> bool:
    """Go from element to element (RFC 8794): into segments, and into clusters of unknown size."""
    position = 0
    while position < num_bytes:
        file.seek(position)
        number, size = _read_vint(file, _MAX_ID_BYTES), _read_vint(file, _MAX_SIZE_BYTES)
        if number is None or size is None:
            return False
        is_unknown = size[0] == (1 << 7 * size[1]) - 1
        element = number[0] | 1 << 7 * number[1]
        position += number[1] + size[1]
        if element == _SEGMENT and not is_unknown and position + size[0] > num_bytes:
            return False
        if element != _SEGMENT and not (element == _CLUSTER and is_unknown):
            position += size[0]
    return position == num_bytes


def _read_vint(file: BinaryIO, max_bytes: int) -> tuple[int, int] | None:
    """Return a number of variable length without the bit that marks its length, and its bytes; None: there is none."""
    first = file.read(1)
    num_bytes = 9 - first[0].bit_length() if first else max_bytes + 1
    rest = file.read(num_bytes - 1)
    if num_bytes > max_bytes or len(rest) < num_bytes - 1:
        return None
    return int.from_bytes(first + rest) & ((1 << 7 * num_bytes) - 1), num_bytes


def _walk_flv(file: BinaryIO, num_bytes: int) -> bool:
    """Go from tag to tag; each is followed by its size."""
    position = _FLV_HEADER_BYTES + _FLV_TRAILER_BYTES
    while position < num_bytes:
        file.seek(position)
        header = file.read(_FLV_TAG_BYTES)
        if len(header) < _FLV_TAG_BYTES or header[0] & 0x1F not in _FLV_TAGS:
            return False
        position += _FLV_TAG_BYTES + int.from_bytes(header[1:4]) + _FLV_TRAILER_BYTES
    return position == num_bytes


_WALKS: dict[str, Callable[[BinaryIO, int], bool | None]] = {
    "flv": _walk_flv,
    "matroska,webm": _walk_matroska,
    "mov,mp4,m4a,3gp,3g2,mj2": _walk_mp4,
}
