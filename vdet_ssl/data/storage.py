"""Files here and elsewhere: one way to open local paths, what iopath knows, and fsspec's URLs (s3://, gs://, ...)."""

import glob
import os
import re
from typing import BinaryIO

import fsspec
from detectron2.utils.file_io import PathManager

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(::.*)?://")
_NUMBER_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_remote(path: str) -> bool:
    """Whether a path is the URL of something that fsspec or iopath opens; all others are local, whatever their name."""
    if "://" not in path:
        return False
    return _by_fsspec(path) or any(path.startswith(prefix) for prefix in PathManager._path_handlers)


def _by_fsspec(path: str) -> bool:
    scheme = _SCHEME.match(path)
    return scheme is not None and scheme[1].lower() in fsspec.available_protocols()


def open_binary(path: str) -> BinaryIO:
    """Open a file for reading bytes; a URL whose protocol fsspec does not know is iopath's."""
    return fsspec.open(path, "rb").open() if _by_fsspec(path) else PathManager.open(path, "rb")


def read_bytes(path: str, offset: int = 0, num_bytes: int = -1) -> bytes:
    """Return `num_bytes` of a file from `offset` on (all that follow, if negative)."""
    with open_binary(path) as file:
        file.seek(offset)
        return file.read(num_bytes)


def join(folder: str, path: str) -> str:
    """Return `path`, relative to `folder` unless it is absolute or a URL."""
    return path if is_remote(path) else os.path.join(folder, path)


def expand(pattern: str) -> list[str]:
    """Return the paths that a pattern stands for, sorted: `{000..127}` counts, `*`, `?` and `[...]` are looked up."""
    match = _NUMBER_RANGE.search(pattern)
    if match:
        first, last = match.groups()
        numbers = (f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1))
        return sorted(path for i in numbers for path in expand(pattern[: match.start()] + i + pattern[match.end() :]))
    if not glob.has_magic(pattern):
        return [pattern]
    if not _by_fsspec(pattern):
        return sorted(glob.glob(pattern, recursive=True))
    filesystem, path = fsspec.core.url_to_fs(pattern)
    return sorted(filesystem.unstrip_protocol(found) for found in filesystem.glob(path))
