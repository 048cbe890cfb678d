"""What is done to the colours of a clip, on uint8, with one set of parameters for all its frames (section 4.5, B.1).

Frames are uint8 (T, H, W, 3) RGB arrays, changed in place where OpenCV can.  Brightness, contrast, saturation and hue
are torchvision's definitions, but for the mean that contrast blends with: it is taken over the clip, so that all frames
are changed alike.  Each is rounded to whole grey levels; results differ from the exact ones by less than 2.
"""

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""The frames of a clip, uint8 (T, H, W, 3) RGB, or (T, H, W) where they are gray."""

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV and torchvision


def adjust_brightness(frames: Frames, factor: float) -> Frames:
    """Multiply by `factor`; 1: unchanged, 0: black."""
    cv2.convertScaleAbs(_tall(frames), dst=_tall(frames), alpha=factor)
    return frames


def adjust_contrast(frames: Frames, factor: float) -> Frames:
    """Blend with the clip's mean grey level; 1: unchanged, 0: uniform gray."""
    mean = np.dot(cv2.mean(_tall(frames))[:3], LUMA)
    return _linear(frames, factor * np.eye(3), (1 - factor) * mean)


def adjust_saturation(frames: Frames, factor: float) -> Frames:
    """Blend each pixel with its gray; 1: unchanged, 0: gray."""
    return _linear(frames, factor * np.eye(3) + (1 - factor) * np.array(LUMA), 0.0)


def adjust_hue(frames: Frames, shift: float) -> Frames:
    """Rotate the hue by `shift`, a fraction of the full circle in [-0.5, 0.5]."""
    buffer = np.empty(frames.shape[1:], np.float32)
    for frame in frames:
        # In float: 8-bit hue has 256 steps at most, which is up to 3 grey levels.
        np.copyto(buffer, frame)
        cv2.cvtColor(buffer, cv2.COLOR_RGB2HSV, dst=buffer)
        # OpenCV wraps hues above 360, not below 0; its stubs know no scalars.
        cv2.add(buffer, (360.0 * (shift % 1), 0, 0, 0), dst=buffer)  # type: ignore[call-overload]
        cv2.cvtColor(buffer, cv2.COLOR_HSV2RGB, dst=buffer)
        cv2.convertScaleAbs(buffer, dst=frame)
    return frames


ADJUSTMENTS: dict[str, Callable[[Frames, float], Frames]] = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}


def to_gray(frames: Frames) -> Frames:
    """Return the gray levels of a clip: uint8 (T, H, W, 3) -> (T, H, W)."""
    gray = cast(Frames, cv2.cvtColor(_tall(frames), cv2.COLOR_RGB2GRAY))
    return gray.reshape(frames.shape[:3])


def from_gray(gray: Frames) -> Frames:
    """Repeat gray levels in three channels: uint8 (T, H, W) -> (T, H, W, 3)."""
    rgb = cast(Frames, cv2.cvtColor(_tall(gray), cv2.COLOR_GRAY2RGB))
    return rgb.reshape(*gray.shape, 3)


def temporal_difference(gray: Frames) -> Frames:
    """Subtract gray frames across time: uint8 (T, H, W) -> uint8 (T, H, W) (section 4.5).

    Frame t becomes 128 + (frame t - frame t+1) / 2, so that no change is 128; the last frame, which has no next one,
    repeats the difference before it.  The halving and the repeated last difference are those of the released code.
    """
    if len(gray) == 1:
        return np.full_like(gray, 128)
    difference = np.empty_like(gray)
    cv2.addWeighted(_tall(gray[:-1]), 0.5, _tall(gray[1:]), -0.5, 128, dst=_tall(difference[:-1]))
    difference[-1] = difference[-2]
    return difference


def gaussian_blur(frames: Frames, sigma: float) -> Frames:
    """Blur each frame with a Gaussian of standard deviation `sigma`, in pixels; (T, H, W, 3) or (T, H, W), in place.

    The kernel ends at 4 sigma, where the rest is below 0.02 grey levels; borders are reflected, as in torchvision.
    """
    kernel = cv2.getGaussianKernel(2 * blur_radius(sigma) + 1, sigma, cv2.CV_32F)
    for frame in frames:
        cv2.sepFilter2D(frame, -1, kernel, kernel, dst=frame, borderType=cv2.BORDER_REFLECT_101)
    return frames


def blur_radius(sigma: float) -> int:
    """Return the radius of the blur's kernel, in pixels."""
    return int(np.ceil(4 * sigma))


def _linear(frames: Frames, matrix: NDArray[np.float64], offset: float) -> Frames:
    affine = np.hstack([matrix, np.full((3, 1), offset)])
    cv2.transform(_tall(frames), affine, dst=_tall(frames))
    return frames


def _tall(frames: Frames) -> Frames:
    """View a contiguous clip as one tall frame, for operations that treat each pixel by itself."""
    return frames.reshape(-1, *frames.shape[2:])
