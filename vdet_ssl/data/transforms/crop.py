"""Where a clip is cropped, and the crop itself (section 4.5, B.1, B.3)."""

import cv2
import numpy as np
from fvcore.transforms.transform import Transform


class CropResize(Transform):
    """Crop a rectangle of a frame and resize it.

    Attributes:
        x0, y0, w, h: the rectangle, in whole pixels of the source frame.
        height, width: of the result, in pixels.
    """

    def __init__(self, x0, y0, w, h, height, width):
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img, out=None):
        """Return uint8 (height, width, C) or (height, width); `out`: an array to write it to."""
        part = img[self.y0 : self.y0 + self.h, self.x0 : self.x0 + self.w]
        # Bilinear looks at two pixels a side, so from a factor of two on it would skip some: halve first (by exactly
        # two, OpenCV's fast path; an odd last row or column is left out).
        while part.shape[0] >= 2 * self.height and part.shape[1] >= 2 * self.width:
            h, w = part.shape[0] // 2, part.shape[1] // 2
            part = cv2.resize(part[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA)
        return cv2.resize(part, (self.width, self.height), dst=out, interpolation=cv2.INTER_LINEAR)

    def apply_coords(self, coords):
        """Map float (N, 2) points x, y of the source frame, in pixels, to the result; boxes: `apply_box`."""
        scale = np.array([self.width / self.w, self.height / self.h])
        return (coords - np.array([self.x0, self.y0])) * scale

    def halved(self):
        """Return the crop of the same part of a plane with half the width and height (rounded up), to the same size."""
        x0, y0 = self.x0 // 2, self.y0 // 2
        x1, y1 = (self.x0 + self.w + 1) // 2, (self.y0 + self.h + 1) // 2
        return CropResize(x0, y0, x1 - x0, y1 - y0, self.height, self.width)


def whole_frame(height, width, short_side):
    """Return the CropResize that keeps the whole frame and gives its shorter side `short_side` pixels."""
    scale = short_side / min(height, width)
    return CropResize(0, 0, width, height, round(height * scale), round(width * scale))


def center_crop(height, width, short_side, crop_size):
    """Return the CropResize that resizes the shorter side to `short_side` and takes the `crop_size` in the middle."""
    w, h = _rectangle_before_resize(height, width, short_side, crop_size)
    return CropResize((width - w) // 2, (height - h) // 2, w, h, *crop_size)


def draw_vgg_crop(rng, height, width, short_side, crop_size):
    """Draw a "VGG-style" crop: the shorter side resized to `short_side`, then a random `crop_size` of it (B.1)."""
    w, h = _rectangle_before_resize(height, width, short_side, crop_size)
    return CropResize(*_draw_corner(rng, height, width, w, h), w, h, *crop_size)


def draw_inception_crop(rng, height, width, area, aspect_ratio, crop_size):
    """Draw an "Inception-style" crop: a random share of the area with a random aspect ratio (section 4.5, Table 8).

    As in torchvision: the share is uniform in `area`, the ratio (width / height) log-uniform in `aspect_ratio`; what
    does not fit into the frame is drawn again, ten times at most, then the largest centred crop with an admissible
    ratio is taken.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        ratio = np.exp(rng.uniform(*np.log(aspect_ratio)))
        w, h = round(np.sqrt(pixels * ratio)), round(np.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return CropResize(*_draw_corner(rng, height, width, w, h), w, h, *crop_size)
    ratio = np.clip(width / height, *aspect_ratio)
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return CropResize((width - w) // 2, (height - h) // 2, w, h, *crop_size)


def _draw_corner(rng, height, width, w, h):
    return int(rng.integers(width - w, endpoint=True)), int(rng.integers(height - h, endpoint=True))


def _rectangle_before_resize(height, width, short_side, crop_size):
    """Return width and height, in the source frame, of what becomes `crop_size` once the shorter side is resized."""
    scale = min(height, width) / short_side
    return min(width, round(crop_size[1] * scale)), min(height, round(crop_size[0] * scale))
