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
        with naming(path, partial), open(partial, mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def naming(path: str | os.PathLike[str], instead_of: str | os.PathLike[str] = "") -> Iterator[None]:
    """In this context an OSError that names no file, as those of `write`, names this one (or this one instead of another).

    So does what torch's zip writer raises after an OSError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause: BaseException | None = error
        while type(cause) is RuntimeError:
            cause = cause.__context__
        if not isinstance(cause, OSError) or cause.filename not in (None, "", os.fspath(instead_of)):
            raise
        raise OSError(cause.errno, cause.strerror, os.fspath(path)) from error


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
