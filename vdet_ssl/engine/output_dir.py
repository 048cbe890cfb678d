"""OUTPUT_DIR: one run at a time in a folder, and no run's results replaced without being asked to."""

import logging
import os
import shutil
from pathlib import Path

from vdet_ssl.checkpoint.whole import FINAL, damage
from vdet_ssl.config import CfgNode
from vdet_ssl.errors import ConfigError
from vdet_ssl.files import atomic_write, hold_lock, remove_partial_files

_CHECKPOINTS = ("last_checkpoint", "model_*.pth")
_DUE = "evaluation_due"
_OTHERS = (
    *("metrics.json", "events.out.tfevents.*", "broken_videos.csv", "not_finite_*.pth", "inference"),
    _DUE,
)

logger = logging.getLogger(__name__)


def claim(output_dir: str, *, resume: bool, overwrite: bool) -> None:
    """Make the folder this process' own, for a training; call it in the main process, before anything is written.

    Args:
        resume: a training that is in the folder goes on.
        overwrite: it will be deleted (`clear`).
    Raises:
        ConfigError: another process runs in the folder, or another training is in it.
    """
    folder = Path(output_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    remove_partial_files(folder)
    if not (resume or overwrite) and _matching(folder, _CHECKPOINTS):
        raise ConfigError(
            f"OUTPUT_DIR {output_dir} holds a training already: --resume goes on with it, --overwrite deletes it and "
            "starts again, another OUTPUT_DIR leaves it alone"
        )


def clear(output_dir: str) -> None:
    """Delete the training that is in a folder: checkpoints, metrics and results of evaluations, not what else is there.

    To be called when a new one starts, and all that could be wrong with it has been found.
    """
    for path in _matching(Path(output_dir), (*_CHECKPOINTS, *_OTHERS)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def evaluation_folder(output_dir: str, weights: str) -> str:
    """Return where an evaluation alone writes: a folder of its own in OUTPUT_DIR, named by the checkpoint."""
    return str(Path(output_dir) / f"eval_{Path(weights).stem}")


def save_config(cfg: CfgNode) -> None:
    """Write the config to OUTPUT_DIR/config.yaml."""
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "config.yaml") as file:
        file.write(cfg.dump())


def is_finished(output_dir: str | os.PathLike[str]) -> bool:
    """Whether a training in this folder came to its end: its last checkpoint is whole, and no evaluation is due."""
    final = Path(output_dir) / FINAL
    return final.exists() and not damage(final) and due_evaluation(output_dir) is None


# An evaluation comes after the checkpoint of its iteration; a file says until its figures are written that it is due.


def note_due_evaluation(output_dir: str, iterations: int) -> None:
    """Note that an evaluation is due after this number of iterations."""
    with atomic_write(Path(output_dir) / _DUE) as file:
        file.write(str(iterations))


def due_evaluation(output_dir: str | os.PathLike[str]) -> int | None:
    """Return after how many iterations an evaluation is due whose figures are not written; None: there is none."""
    path = Path(output_dir) / _DUE
    return int(path.read_text()) if path.exists() else None


def forget_due_evaluation(output_dir: str) -> None:
    """Note that its figures are written."""
    (Path(output_dir) / _DUE).unlink(missing_ok=True)


def _lock(folder: Path) -> None:
    try:
        hold_lock(folder / ".lock", f"OUTPUT_DIR {folder} is in use by another run; choose another one")
    except OSError as error:
        logger.warning(f"OUTPUT_DIR {folder} cannot be locked ({error}): a second run in it would not be noticed")


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern)]
