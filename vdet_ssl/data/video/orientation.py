"""How stored frames have to be rotated and mirrored to be upright."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """What makes a stored frame upright: transposed first, then flipped.

    Attributes:
        is_transposed, is_flipped_vertically, is_flipped_horizontally: whether that has to be done.
        rotation: degrees counter-clockwise of the rotation in it: 0, 90, 180 or 270.
    """

    is_transposed: bool = False
    is_flipped_vertically: bool = False
    is_flipped_horizontally: bool = False
    rotation: int = 0

    @property
    def is_upright(self) -> bool:
        """Whether nothing has to be done."""
        return not (self.is_transposed or self.is_flipped_vertically or self.is_flipped_horizontally)

    @property
    def is_mirrored(self) -> bool:
        """Whether it is more than a rotation."""
        return self.is_transposed ^ self.is_flipped_vertically ^ self.is_flipped_horizontally

    def apply(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Return a view of (H, W, ...) that is upright."""
        if self.is_transposed:
            plane = plane.swapaxes(0, 1)
        vertical, horizontal = (
            -1 if flip else 1 for flip in (self.is_flipped_vertically, self.is_flipped_horizontally)
        )
        return plane[::vertical, ::horizontal]

    def upright_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of an upright frame from those of a stored one."""
        return (height, width) if self.is_transposed else (width, height)


def read_orientation(frame: av.VideoFrame) -> Orientation:
    """Read a frame's orientation from its display matrix.

    It maps stored (x, y) to presented (a x + c y, b x + d y), y pointing down.
    """
    # Not frame.side_data: that is a cycle that keeps the frame's memory.  PyAV's stubs lack the constructor.
    data = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    if data is None:
        return Orientation()
    (a, b, _), (c, d, _), _ = np.frombuffer(data, np.int32).reshape(3, 3).tolist()
    rotation = round(np.degrees(np.arctan2(-b, a)) / 90) * 90 % 360
    if abs(b) > abs(a):
        return Orientation(True, b < 0, c < 0, rotation)
    return Orientation(False, d < 0, a < 0, rotation)
