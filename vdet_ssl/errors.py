"""The errors that a user can mend: bad configs, files, videos and checkpoints.

Each message is one line that says what is wrong, where, and what to do.  A tool prints it and nothing else
(`one_line_errors`); whatever else is raised is a programmer's slip, and keeps its traceback.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """The base of all errors that a user can mend."""


class ConfigError(UserError, ValueError):
    """A config file, a key's value or a command-line override that cannot be used."""


class DataError(UserError, ValueError):
    """A data set, a list, or another file of data that is missing, wrong, or does not fit the others."""


class AvaFormatError(DataError):
    """A file does not follow its format; the message says which file, which line (from 1) and what is wrong."""

    def __init__(self, path: str | os.PathLike, line: int, reason: object) -> None:
        super().__init__(f"{path}:{line}: {reason}")
        self.path, self.line, self.reason = path, line, reason


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read or does not fit the model; the message names the file and says what to do."""


class VideoError(UserError, RuntimeError):
    """A video that cannot be decoded.

    Attributes:
        path: the file.
        reason: what is wrong, one line.
        index: of the sample in its data set, where known.
    """

    def __init__(self, path: str | os.PathLike, reason: str, index: int | None = None) -> None:
        super().__init__(str(path), reason, index)  # all of them in args: pickled and unpickled between processes
        self.path, self.reason, self.index = str(path), reason, index

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class BrokenVideosError(UserError, RuntimeError):
    """More of the training videos are broken than DATALOADER.BROKEN_TOLERANCE allows."""


class NotFiniteError(UserError, FloatingPointError):
    """A loss or a gradient is NaN or infinite; the message names the inputs and a file that reproduces it."""


def is_users_error(error: BaseException) -> bool:
    """Whether it is a `UserError`, or an `OSError` about a file (missing, not readable) or a full disk."""
    is_about_file = isinstance(error, OSError) and (error.filename is not None or error.errno in DISK_IS_FULL)
    return isinstance(error, UserError) or is_about_file


def _one_line_of_thread(args: threading.ExceptHookArgs) -> None:
    """Say in one line what ended a thread, such as the one of tensorboard that writes, if the user can mend it."""
    if args.exc_value is not None and is_users_error(args.exc_value):
        print(f"{args.exc_type.__name__}: {args.exc_value}", file=sys.stderr)
    else:
        threading.__excepthook__(args)


@contextlib.contextmanager
def one_line_errors(show_traceback: bool = False) -> Iterator[None]:
    """Around a tool's main function: end the process with one line for an error that its user can mend.

    Those are what `is_users_error` takes for one; all others pass.  An interrupted tool (Ctrl-C) says so.

    Args:
        show_traceback: let these pass too (`--traceback`).
    """
    if not show_traceback:
        threading.excepthook = _one_line_of_thread
    try:
        yield
    except (UserError, OSError) as error:
        if show_traceback or not is_users_error(error):
            raise
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        if show_traceback:
            raise
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
