"""Clips as the codec stores them: 8-bit planar YUV 4:2:0, half the bytes of RGB, to be converted after the crop."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Fractions of red and blue in luma, by FFmpeg's number of the colour matrix (ITU-T H.273); untagged video counts as
# BT.601, as in FFmpeg's own conversion.
_BT601, _BT709 = (0.299, 0.114), (0.2126, 0.0722)
LIMITED_RANGE, FULL_RANGE = 1, 2  # FFmpeg's numbers of luma in 16..235 and in 0..255
_LUMA = {1: _BT709, 2: _BT601, 4: _BT601, 5: _BT601, 6: _BT601}


@dataclass
class YUVClip:
    """A clip of T frames of H x W pixels.

    Attributes:
        y: uint8 (T, H, W).
        u, v: uint8 (T, ceil(H / 2), ceil(W / 2)); sample (i, j) belongs to pixels (2i, 2j) to (2i + 1, 2j + 1).
        matrix: float32 (3, 4), of `yuv_to_rgb`.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    matrix: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3), the shape that the clip has as RGB."""
        num_frames, height, width = self.y.shape
        return num_frames, height, width, 3

    def to_rgb(self) -> NDArray[np.uint8]:
        """Convert whole frames to uint8 (T, H, W, 3) RGB; each chroma sample is repeated for its four pixels."""
        _, height, width = self.y.shape
        u, v = (plane.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width] for plane in (self.u, self.v))
        return yuv_to_rgb(self.y, u, v, self.matrix)


def yuv_to_rgb(
    y: NDArray[np.uint8],
    u: NDArray[np.uint8],
    v: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Convert planes of one resolution to RGB.

    Args:
        y, u, v: uint8 arrays of one shape (..., W).
        matrix: float32 (3, 4), see `rgb_matrix`.
        out: where to write one frame, a contiguous uint8 array (H, W, 3).
    Returns:
        uint8 (..., W, 3)
    """
    flat = [np.ascontiguousarray(plane).reshape(-1, plane.shape[-1]) for plane in (y, u, v)]
    rgb = cv2.transform(cv2.merge(flat), matrix, dst=out)
    return np.asarray(rgb, np.uint8).reshape(*y.shape, 3)


def is_limited_gray(pixel_format: str, color_range: int) -> bool:
    """Whether gray frames, of FFmpeg's format and colour range, take 16..235 only: FFmpeg converts them as if 0..255."""
    return pixel_format.startswith("gray") and color_range == LIMITED_RANGE


def stretch_gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) with 16..235 stretched to 0..255."""
    stretched = ((np.arange(256) - 16) * (255 / 219)).round().clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, stretched), np.uint8)


def knows_matrix(colorspace: int) -> bool:
    """Whether `rgb_matrix` can convert FFmpeg's colour matrix number `colorspace`."""
    return colorspace in _LUMA


def rgb_matrix(colorspace: int, full_range: bool) -> NDArray[np.float32]:
    """Return the affine map from (Y, U, V) to (R, G, B), all in 0..255.

    Args:
        colorspace: FFmpeg's number of the colour matrix (ITU-T H.273): 1 is BT.709; 2 (untagged), 4, 5 and 6 are BT.601.
        full_range: whether luma takes 0..255 rather than 16..235.
    Returns:
        float32 (3, 4): rows R, G, B; columns Y, U, V, 1.
    """
    red, blue = _LUMA[colorspace]
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    v_to_red, u_to_blue = 2 * (1 - red), 2 * (1 - blue)
    linear = np.array(
        [
            [luma, 0, chroma * v_to_red],
            [luma, -chroma * u_to_blue * blue / green, -chroma * v_to_red * red / green],
            [luma, chroma * u_to_blue, 0],
        ]
    )
    offset = -linear @ np.array([black, 128, 128])
    return np.column_stack([linear, offset]).astype(np.float32)
