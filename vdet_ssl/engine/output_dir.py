"""OUTPUT_DIR: one run at a time in a folder, and no run's results replaced without being asked to."""

import logging
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from vdet_ssl.errors import ConfigError

_CHECKPOINTS = ("last_checkpoint", "model_*.pth")
_OTHERS = ("metrics.json", "events.out.tfevents.*", "log.txt*", "broken_videos.csv", "not_finite_*.pth", "inference")
_held: dict[Path, FileLock] = {}  # until this process ends, however it ends

logger = logging.getLogger(__name__)


def claim(output_dir: str, *, resume: bool, overwrite: bool) -> None:
    """Make the folder this process' own, for a training; call it in the main process, before anything is written.

    What a training left that never came to a checkpoint makes room for the new one.

    Args:
        resume: a training that is in the folder goes on.
        overwrite: it is deleted: checkpoints, metrics, logs and results of evaluations, not what else is there.
    Raises:
        ConfigError: another process runs in the folder, or another training is in it.
    """
    folder = Path(output_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    if resume:
        return
    if not overwrite and _matching(folder, _CHECKPOINTS):
        raise ConfigError(
            f"OUTPUT_DIR {output_dir} holds a training already: --resume goes on with it, --overwrite deletes it and "
            "starts again, another OUTPUT_DIR leaves it alone"
        )
    for path in _matching(folder, (*_CHECKPOINTS, *_OTHERS)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def evaluation_folder(output_dir: str, weights: str) -> str:
    """Return where an evaluation alone writes: a folder of its own in OUTPUT_DIR, named by the checkpoint."""
    return str(Path(output_dir) / f"eval_{Path(weights).stem}")


def _lock(folder: Path) -> None:
    if folder in _held:
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"OUTPUT_DIR {folder} is in use by another run; choose another one") from None
    except (OSError, NotImplementedError) as error:
        logger.warning(f"OUTPUT_DIR {folder} cannot be locked ({error}): a second run in it would not be noticed")
        return
    _held[folder] = lock


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern)]
