"""What was drawn for a clip, the same for all its frames; it moves pixels and boxes (section 4.5, B.1)."""

from dataclasses import dataclass

import cv2
import numpy as np
from fvcore.transforms.transform import HFlipTransform
from numpy.typing import NDArray

from vdet_ssl.data.transforms import color
from vdet_ssl.data.transforms.color import Frames
from vdet_ssl.data.transforms.crop import CropResize
from vdet_ssl.data.video.clip_buffer import Clip


@dataclass(frozen=True)
class ClipTransform:
    """What happens to one clip, in this order.

    Attributes:
        crop: where it is cropped and to which size it is resized.
        flip: mirrored left to right.
        jitter: pairs of an adjustment's name (see `color.ADJUSTMENTS`) and its factor or shift, in order.
        grayscale: reduced to gray.
        temporal_difference: reduced to gray and subtracted across time; after the jitter, so that no change stays
            the level 128 (the released code jitters the differences).
        blur_sigma: of the Gaussian blur, in pixels of the result; 0: none.
    """

    crop: CropResize
    flip: bool = False
    jitter: tuple[tuple[str, float], ...] = ()
    grayscale: bool = False
    temporal_difference: bool = False
    blur_sigma: float = 0.0

    def apply_clip(self, clip: Clip) -> Frames:
        """Return the clip, uint8 (T, H, W, 3) RGB or planes, as uint8 (T, crop.height, crop.width, 3) RGB."""
        return self.apply_after_crop(self.crop.apply_clip(clip))

    def apply_after_crop(self, frames: Frames) -> Frames:
        """Do all but the crop: uint8 (T, H, W, 3) -> uint8 (T, H, W, 3); may overwrite `frames`."""
        if self.flip:
            for frame in frames:
                cv2.flip(frame, 1, dst=frame)
        for name, value in self.jitter:
            color.ADJUSTMENTS[name](frames, value)
        is_gray = self.grayscale or self.temporal_difference
        if is_gray:
            frames = color.to_gray(frames)  # one channel until the end
        if self.temporal_difference:
            frames = color.temporal_difference(frames)
        if self.blur_sigma > 0:
            frames = color.gaussian_blur(frames, self.blur_sigma)
        return color.from_gray(frames) if is_gray else frames

    def apply_box(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move boxes (N, 4), XYXY in pixels of the source frame, to pixels of the result; they may leave it."""
        boxes = self.crop.apply_box(boxes)
        return HFlipTransform(self.crop.width).apply_box(boxes) if self.flip else boxes
