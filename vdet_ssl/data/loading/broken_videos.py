"""The broken videos that training met: counted, listed, and tolerated only as far as a key says."""

import itertools
import logging
import os
from typing import Any, NoReturn

import pandas as pd
from detectron2.utils import comm

from vdet_ssl.errors import BrokenVideosError, VideoError
from vdet_ssl.files import atomic_write

logger = logging.getLogger(__name__)


class BrokenVideos:
    """The broken videos met in training, and when there are too many of them.

    Args:
        num_videos: of the data set.
        tolerance: fraction of them that may be broken.
        output_dir: folder of broken_videos.csv (path, reason, index, epoch), written at the end of each epoch.
    """

    def __init__(self, *, num_videos: int, tolerance: float, output_dir: str) -> None:
        self.num_videos, self.tolerance = num_videos, tolerance
        self.path = os.path.join(output_dir, "broken_videos.csv")
        self._rows: dict[int, dict[str, Any]] = {}  # by index

    def add(self, error: VideoError, epoch: int) -> None:
        """Count the video of a VideoError, which has its index.

        Raises:
            BrokenVideosError: it is one too many, or there is no other.
        """
        if error.index is None:
            raise ValueError(f"a broken video without an index: {error}")
        if error.index in self._rows:
            return
        self._rows[error.index] = {"path": error.path, "reason": error.reason, "index": error.index, "epoch": epoch}
        logger.warning(f"Broken video, left out ({len(self._rows)} of {self.num_videos} so far): {error}")
        if self._too_many():
            self._write()
            self._stop()

    def gather(self) -> None:
        """At the end of an epoch, on all processes: count what all of them met, and list it."""
        for rows in comm.all_gather(self._rows):
            self._rows = {**rows, **self._rows}
        if comm.is_main_process():
            self._write()
        if self._too_many():
            self._stop()

    def _too_many(self) -> bool:
        return len(self._rows) > self.tolerance * self.num_videos or len(self._rows) == self.num_videos

    def _stop(self) -> NoReturn:
        shown = [f"  {row['path']}: {row['reason']}" for row in itertools.islice(self._rows.values(), 20)]
        raise BrokenVideosError(
            f"{len(self._rows)} of {self.num_videos} videos are broken, more than DATALOADER.BROKEN_TOLERANCE = "
            f"{self.tolerance:g} allows; all are listed in {self.path}:\n" + "\n".join(shown)
        )

    def _write(self) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        rows = sorted(self._rows.values(), key=lambda row: row["index"])
        with atomic_write(self.path) as file:
            pd.DataFrame(rows, columns=["path", "reason", "index", "epoch"]).to_csv(file, index=False)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the rows of all broken videos so far."""
        return list(self._rows.values())

    def load_state_dict(self, rows: list[dict[str, Any]]) -> None:
        self._rows = {row["index"]: row for row in rows}
