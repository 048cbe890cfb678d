"""Which checkpoints of a training are whole, and which of them is the newest."""

import functools
import logging
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from vdet_ssl.errors import CheckpointError

LAST = "last_checkpoint"  # the file that names the newest one
FINAL = "model_final.pth"

logger = logging.getLogger(__name__)


def newest_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Return the newest whole checkpoint that a training left in its folder; None: there is no checkpoint.

    That is what `last_checkpoint` names, or, where that is missing or damaged, the one of the highest iteration; what was
    passed over is logged.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    candidates = _candidates(Path(folder))
    problems: list[str] = []
    for path in candidates:
        problem = damage(path)
        if not problem:
            for text in problems:
                logger.warning(f"{text}: {path} is taken instead")
            return path
        problems.append(f"{path} {problem}")
    if problems:
        raise CheckpointError(
            f"none of the checkpoints in {folder} is whole ({'; '.join(problems)}): --overwrite starts again"
        )
    return None


def _candidates(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, and what `last_checkpoint` names, the best first."""
    found = [path for path in folder.glob("model_*.pth") if re.fullmatch(r"model_(\d+|final)", path.stem)]
    found.sort(key=lambda path: (_iteration(path), path.name == FINAL), reverse=True)
    last = folder / LAST
    name = last.read_text(encoding="utf-8", errors="replace").strip("\0 \n") if last.is_file() else ""
    if not name:
        if found:
            logger.warning(f"{last} is {'empty' if last.is_file() else 'missing'}: the checkpoints beside it are tried")
        return found
    return [folder / name, *(path for path in found if path.name != name)]


def _iteration(path: Path) -> int:
    """Return the iteration of a checkpoint that may be damaged (then it may be -1)."""
    if path.name != FINAL:
        return int(path.stem.removeprefix("model_"))
    try:
        return glance(path)["iteration"]
    except Exception:  # noqa: BLE001 - torch raises many kinds for a damaged file
        return -1


def glance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what is in a checkpoint without reading its tensors from the disk before they are used."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def damage(path: str | os.PathLike[str]) -> str:
    """Return what is wrong with the file of a checkpoint of torch's zip format, read to its end; "": nothing.

    torch writes a checksum (CRC-32) of each tensor, but does not look at it when it loads one.
    """
    try:
        state = os.stat(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return _damage(str(path), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _damage(path: str, size: int, mtime_ns: int) -> str:
    if size == 0:
        return "is empty"
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.testzip()
    except Exception as error:  # noqa: BLE001 - zipfile raises many kinds for a damaged file
        return f"is cut short or damaged ({error})"
    return "" if entry is None else f"is damaged (the checksum of {entry} is wrong)"
