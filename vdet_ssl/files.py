"""Files that are whole or not there, and places that one process has to itself."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from vdet_ssl.errors import ConfigError

_PARTIAL = ".partial"
_held: dict[Path, FileLock] = {}  # until this process ends, however it ends


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """In this context a new file is written beside its place, which it takes when it is complete and on the disk.

    Whoever reads `path` sees what was there before or all that is new, whatever happens in between.  What is not a plain
    file (a pipe, /dev/null) is written to as it is.

    Args:
        path: of the file, in a folder that exists.
        mode: "w" for text (UTF-8) or "wb".
    Raises:
        OSError: it cannot be written (the disk is full, say); with its name, which errors of `write` lack.
    """
    path, encoding = Path(path), None if "b" in mode else "utf-8"
    if path.exists() and not path.is_file():
        with open(path, mode, encoding=encoding) as file:
            yield file
        return
    # A name that nobody can know before, and "x", which follows no link: nothing can be planted there.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        with open(partial, mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        cause = _os_error(error)
        if cause is None or cause.filename not in (None, str(partial)):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the OSError that an error is, or came from: torch's zip writer raises another one after it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__ if isinstance(error, RuntimeError) else None
    return error


def remove_partial_files(folder: Path) -> None:
    """Remove what processes left in a folder that were killed in `atomic_write`; only while nobody else writes there."""
    for path in folder.glob(f".*{_PARTIAL}"):
        path.unlink()


def hold_lock(path: str | os.PathLike[str], message: str) -> None:
    """Take the lock that a file stands for; it is this process' until it ends, however it ends.

    Args:
        path: of the file, which is made where it is missing.
        message: of the error.
    Raises:
        ConfigError: another process has it.
        OSError: the file system has no locks.
    """
    path = Path(path).resolve()
    if path in _held:
        return
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(message) from None
    except NotImplementedError as error:
        raise OSError(str(error)) from error
    _held[path] = lock
