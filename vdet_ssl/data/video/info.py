"""What every part of reading video shares: the facts of a video, its endings, its tolerance, its time limit."""

import math
import os
import time
from dataclasses import dataclass
from os import PathLike

# Endings of the files that are taken for videos, in lower case.
VIDEO_EXTENSIONS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
# Containers round time stamps, some (mkv, webm, flv) to whole milliseconds: that of the first frame and that of the
# wanted one may be off by half of one each.  The bit above that keeps the limit off the stamps of common time bases.
TIME_TOLERANCE_S = 1.02e-3


def is_video(path: str | PathLike[str]) -> bool:
    """Whether a path has the name of a video; hidden files, as macOS' "._a.mp4", are none."""
    name = os.path.basename(path)
    return name.lower().endswith(VIDEO_EXTENSIONS) and not name.startswith(".")


@dataclass(frozen=True)
class VideoInfo:
    """What the container says about a video, without decoding it.

    Attributes:
        duration_s: from the presentation of the first frame to the end of the last.
        fps: average frames a second.
        num_frames: None where the container does not know.
        width, height: in pixels, as presented (after rotation).
        codec: FFmpeg's name of it.
        rotation: degrees counter-clockwise by which stored frames are rotated for presentation: 0, 90, 180 or 270.
    """

    duration_s: float
    fps: float
    num_frames: int | None
    width: int
    height: int
    codec: str
    rotation: int


class Deadline:
    """When work on a file has to end.

    Args:
        timeout_s: seconds from now; 0: never.
    """

    def __init__(self, timeout_s: float) -> None:
        self._end_s = time.monotonic() + timeout_s if timeout_s > 0 else math.inf

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, more than 0; None: it never ends."""
        return None if self._end_s == math.inf else max(self._end_s - time.monotonic(), 0.001)

    def check(self) -> None:
        """Raise TimeoutError if the time is over."""
        if time.monotonic() > self._end_s:
            raise TimeoutError("decoding took too long (DATALOADER.DECODE_TIMEOUT_S)")
