"""Where a clip is cropped, and the crop itself (section 4.5, B.1, B.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import cv2
import numpy as np
from fvcore.transforms.transform import Transform
from numpy.typing import NDArray

from vdet_ssl.data.transforms.color import Frames
from vdet_ssl.data.video.clip_buffer import Clip
from vdet_ssl.data.video.yuv import YUVClip, yuv_to_rgb

Size = tuple[int, int]
"""Height and width, in pixels."""


@dataclass(frozen=True)
class CropResize(Transform):
    """Crop a rectangle of a frame and resize it.

    Attributes:
        x0, y0, w, h: the rectangle, in whole pixels of the source frame.
        height, width: of the result, in pixels.
    """

    x0: int
    y0: int
    w: int
    h: int
    height: int
    width: int

    def apply_clip(self, clip: Clip) -> Frames:
        """Crop all frames of a clip: uint8 (T, H, W, 3) RGB -> uint8 (T, height, width, 3) RGB, in memory of its own.

        Of a YUVClip the planes are cropped first: only the result becomes RGB.
        """
        out = np.empty((len(clip), self.height, self.width, 3), np.uint8)
        if isinstance(clip, YUVClip):
            half = self._halved()
            y, u, v = np.empty((3, self.height, self.width), np.uint8)  # of one frame: they stay in the cache
            for t, target in enumerate(out):
                self.apply_image(clip.y[t], out=y)
                half.apply_image(clip.u[t], out=u)
                half.apply_image(clip.v[t], out=v)
                yuv_to_rgb(y, u, v, clip.matrix, out=target)
        else:
            for source, target in zip(clip, out, strict=True):
                self.apply_image(source, out=target)
        return out

    def apply_image(self, img: Frames, out: Frames | None = None) -> Frames:
        """Return uint8 (height, width, C) or (height, width); `out`: an array to write it to."""
        part = img[self.y0 : self.y0 + self.h, self.x0 : self.x0 + self.w]
        # Bilinear looks at two pixels a side, so from a factor of two on it would skip some: halve first (by exactly
        # two, OpenCV's fast path; an odd last row or column is left out).
        while part.shape[0] >= 2 * self.height and part.shape[1] >= 2 * self.width:
            h, w = part.shape[0] // 2, part.shape[1] // 2
            part = cast(Frames, cv2.resize(part[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA))
        size = (self.width, self.height)
        return cast(Frames, cv2.resize(part, size, dst=out, interpolation=cv2.INTER_LINEAR))

    def apply_coords(self, coords: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points (N, 2) x, y of the source frame, in pixels, to the result; boxes: `apply_box`."""
        scale = np.array([self.width / self.w, self.height / self.h])
        return (coords - np.array([self.x0, self.y0])) * scale

    def _halved(self) -> "CropResize":
        """Return the crop of the same part of a plane with half the width and height (rounded up), to the same size."""
        x0, y0 = self.x0 // 2, self.y0 // 2
        x1, y1 = (self.x0 + self.w + 1) // 2, (self.y0 + self.h + 1) // 2
        return CropResize(x0, y0, x1 - x0, y1 - y0, self.height, self.width)


class CropAugmentation(Protocol):
    """Says where a clip is cropped."""

    def get_transform(self, rng: np.random.Generator, height: int, width: int) -> CropResize:
        """Return the crop of one clip whose frames are of this height and width, in pixels."""
        ...


@dataclass(frozen=True)
class ShortSide:
    """Draws to how many pixels the shorter side is resized.

    Attributes:
        sizes: in pixels.
        sampling: "range": any from the smallest to the largest of them; "choice": one of them.
    """

    sizes: Sequence[int]
    sampling: Literal["range", "choice"]

    def draw(self, rng: np.random.Generator) -> int:
        if self.sampling == "range":
            return int(rng.integers(min(self.sizes), max(self.sizes), endpoint=True))
        return int(rng.choice(self.sizes))


@dataclass(frozen=True)
class RandomCrop:
    """A "VGG-style" crop: the shorter side is resized to a size that is drawn, a random `size` taken of it (B.1)."""

    short_side: ShortSide
    size: Size

    def get_transform(self, rng: np.random.Generator, height: int, width: int) -> CropResize:
        w, h = _rectangle_before_resize(height, width, self.short_side.draw(rng), self.size)
        return CropResize(*_draw_corner(rng, height, width, w, h), w, h, *self.size)


@dataclass(frozen=True)
class RandomResizedCrop:
    """An "Inception-style" crop: a random fraction of the area with a random aspect ratio (section 4.5, Table 8).

    As in torchvision: the fraction is uniform in `area`, the ratio (width / height) log-uniform in `aspect_ratio`; what
    does not fit into the frame is drawn again, ten times at most, then the largest centred crop with an admissible
    ratio is taken.
    """

    area: tuple[float, float]
    aspect_ratio: tuple[float, float]
    size: Size

    def get_transform(self, rng: np.random.Generator, height: int, width: int) -> CropResize:
        for _ in range(10):
            pixels = height * width * rng.uniform(*self.area)
            ratio = np.exp(rng.uniform(*np.log(self.aspect_ratio)))
            w, h = round(np.sqrt(pixels * ratio)), round(np.sqrt(pixels / ratio))
            if 0 < w <= width and 0 < h <= height:
                return CropResize(*_draw_corner(rng, height, width, w, h), w, h, *self.size)
        ratio = np.clip(width / height, *self.aspect_ratio)
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        return CropResize((width - w) // 2, (height - h) // 2, w, h, *self.size)


@dataclass(frozen=True)
class UniformCrop:
    """A crop that is not random: the shorter side resized to `short_side`, a `size` taken from a place along the longer.

    Attributes:
        short_side: in pixels.
        size: of the crop.
        position: where along the longer side, from 0, its left or upper end, to 1; across it the middle is taken.
            PySlowFast's three crops of a test clip are at 0, 0.5 and 1.
    """

    short_side: int
    size: Size
    position: float = 0.5

    def get_transform(self, rng: np.random.Generator, height: int, width: int) -> CropResize:
        w, h = _rectangle_before_resize(height, width, self.short_side, self.size)
        x, y = (self.position, 0.5) if width >= height else (0.5, self.position)
        return CropResize(int((width - w) * x), int((height - h) * y), w, h, *self.size)


@dataclass(frozen=True)
class WholeFrame:
    """All of the frame, its shorter side resized to a size that is drawn."""

    short_side: ShortSide

    def get_transform(self, rng: np.random.Generator, height: int, width: int) -> CropResize:
        scale = self.short_side.draw(rng) / min(height, width)
        return CropResize(0, 0, width, height, round(height * scale), round(width * scale))


def _draw_corner(rng: np.random.Generator, height: int, width: int, w: int, h: int) -> tuple[int, int]:
    return int(rng.integers(width - w, endpoint=True)), int(rng.integers(height - h, endpoint=True))


def _rectangle_before_resize(height: int, width: int, short_side: int, size: Size) -> tuple[int, int]:
    """Return width and height, in the source frame, of what becomes `size` once the shorter side is resized."""
    scale = min(height, width) / short_side
    return min(width, round(size[1] * scale)), min(height, round(size[0] * scale))
