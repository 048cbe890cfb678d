"""The augmentation of a clip: drawn once, the same for all its frames (section 4.5, B.1)."""

from dataclasses import dataclass

import cv2
import numpy as np
from detectron2.config import configurable

from vdet_ssl.data.transforms import color
from vdet_ssl.data.transforms.crop import CropResize, center_crop, draw_inception_crop, draw_vgg_crop, whole_frame
from vdet_ssl.data.video.yuv import YUVClip, yuv_to_rgb

CROP_TYPES = ("vgg", "inception", "none", "center")


@dataclass(frozen=True)
class Augmentation:
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


class ClipAugmentation:
    """Draws augmentations and applies them, in uint8, on the CPU.

    Args:
        crop_type: "vgg", "inception" or "none" (see INPUT.CROP.TYPE), or "center": the shorter side resized, then the
            middle taken.
        crop_size: height and width in pixels.
        crop_area, crop_aspect_ratio: lower and upper bound, for "inception".
        short_sides: the smallest and the largest size of the shorter side ("range"), or all sizes ("choice"), pixels.
        short_side_sampling: "range" or "choice".
        flip_prob, jitter_prob, grayscale_prob, temporal_difference_prob, blur_prob: of each step.
        color_strength: s; brightness, contrast and saturation vary by +-0.8s, hue by +-0.2s.
        blur_sigma: lower and upper bound in pixels.

    Raises:
        ValueError: if the settings contradict each other; the message names the key.
    """

    @configurable
    def __init__(
        self,
        *,
        crop_type,
        crop_size=(),
        crop_area=(),
        crop_aspect_ratio=(),
        short_sides=(),
        short_side_sampling="choice",
        flip_prob=0.0,
        jitter_prob=0.0,
        color_strength=0.0,
        grayscale_prob=0.0,
        temporal_difference_prob=0.0,
        blur_prob=0.0,
        blur_sigma=(),
    ):
        if crop_type not in CROP_TYPES:
            raise ValueError(f'INPUT.CROP.TYPE is "{crop_type}"; it has to be one of {", ".join(CROP_TYPES)}')
        if crop_type in ("vgg", "center") and min(short_sides) < max(crop_size):
            raise ValueError(
                f"INPUT.CROP.SIZE {list(crop_size)} does not fit into frames whose shorter side is {min(short_sides)} "
                "(INPUT.MIN_SIZE_TRAIN / MIN_SIZE_TEST)"
            )
        if short_side_sampling not in ("range", "choice"):
            raise ValueError(
                f'INPUT.MIN_SIZE_TRAIN_SAMPLING is "{short_side_sampling}"; it has to be "range" or "choice"'
            )
        self.crop_type = crop_type
        self.crop_size = tuple(crop_size)
        self.crop_area = tuple(crop_area)
        self.crop_aspect_ratio = tuple(crop_aspect_ratio)
        self.short_sides = tuple(short_sides)
        self.short_side_sampling = short_side_sampling
        self.flip_prob = flip_prob
        self.jitter_prob = jitter_prob
        factors = (max(1 - 0.8 * color_strength, 0.0), 1 + 0.8 * color_strength)
        shifts = (-0.2 * color_strength, 0.2 * color_strength)
        self.jitter_ranges = {"brightness": factors, "contrast": factors, "saturation": factors, "hue": shifts}
        self.grayscale_prob = grayscale_prob
        self.temporal_difference_prob = temporal_difference_prob
        self.blur_prob = blur_prob
        self.blur_sigma = tuple(blur_sigma)

    @classmethod
    def from_config(cls, cfg, is_train, crop_type=None):
        """In training what cfg.INPUT says; else a centred crop of the shorter side MIN_SIZE_TEST and nothing random.

        Only what has an effect is read.

        Args:
            crop_type: instead of that one.
        """
        inputs = cfg.INPUT
        ret = {"crop_type": crop_type or (inputs.CROP.TYPE if is_train else "center")}
        if ret["crop_type"] != "none":
            ret["crop_size"] = inputs.CROP.SIZE
        if ret["crop_type"] == "inception":
            ret |= {"crop_area": inputs.CROP.AREA, "crop_aspect_ratio": inputs.CROP.ASPECT_RATIO}
        elif is_train:
            ret |= {"short_sides": inputs.MIN_SIZE_TRAIN, "short_side_sampling": inputs.MIN_SIZE_TRAIN_SAMPLING}
        else:
            ret["short_sides"] = (inputs.MIN_SIZE_TEST,)
        return {**ret, **cls._flip_and_color(inputs)} if is_train else ret

    @staticmethod
    def _flip_and_color(inputs):
        flips, color = {"horizontal": 0.5, "none": 0.0}, inputs.COLOR
        if inputs.RANDOM_FLIP not in flips:
            raise ValueError(f'INPUT.RANDOM_FLIP is "{inputs.RANDOM_FLIP}"; it has to be "horizontal" or "none"')
        ret = {
            "flip_prob": flips[inputs.RANDOM_FLIP],
            "jitter_prob": color.JITTER_PROB,
            "grayscale_prob": color.GRAYSCALE_PROB,
            "temporal_difference_prob": color.TEMPORAL_DIFFERENCE_PROB,
            "blur_prob": color.BLUR_PROB,
        }
        if color.JITTER_PROB > 0:
            ret["color_strength"] = color.STRENGTH
        if color.BLUR_PROB > 0:
            ret["blur_sigma"] = color.BLUR_SIGMA
        return ret

    def draw(self, rng, height, width):
        """Draw the augmentation of one clip.

        Args:
            rng: numpy.random.Generator.
            height, width: of the source frames, in pixels.
        Returns:
            Augmentation
        """
        return Augmentation(
            crop=self._draw_crop(rng, height, width),
            flip=rng.random() < self.flip_prob,
            jitter=self._draw_jitter(rng),
            grayscale=rng.random() < self.grayscale_prob,
            temporal_difference=rng.random() < self.temporal_difference_prob,
            blur_sigma=rng.uniform(*self.blur_sigma) if rng.random() < self.blur_prob else 0.0,
        )

    def _draw_crop(self, rng, height, width):
        if self.crop_type == "inception":
            return draw_inception_crop(rng, height, width, self.crop_area, self.crop_aspect_ratio, self.crop_size)
        if self.short_side_sampling == "range":
            short_side = int(rng.integers(min(self.short_sides), max(self.short_sides), endpoint=True))
        else:
            short_side = int(rng.choice(self.short_sides))
        if self.crop_type == "vgg":
            return draw_vgg_crop(rng, height, width, short_side, self.crop_size)
        if self.crop_type == "center":
            return center_crop(height, width, short_side, self.crop_size)
        return whole_frame(height, width, short_side)

    def _draw_jitter(self, rng):
        """Draw the factors of the four adjustments and their order, as torchvision's ColorJitter does."""
        if rng.random() >= self.jitter_prob:
            return ()
        jitter = [(name, rng.uniform(*bounds)) for name, bounds in self.jitter_ranges.items()]
        return tuple(jitter[i] for i in rng.permutation(len(jitter)))


def crop_clip(clip, crop):
    """Crop and resize all frames of a clip.

    Args:
        clip: uint8 (T, H, W, 3) RGB, or a YUVClip, whose planes are cropped first: only the result becomes RGB.
        crop: CropResize.
    Returns:
        uint8 (T, crop.height, crop.width, 3) RGB
    """
    out = np.empty((len(clip), crop.height, crop.width, 3), np.uint8)
    if isinstance(clip, YUVClip):
        half = crop.halved()
        y, u, v = np.empty((3, crop.height, crop.width), np.uint8)  # of one frame: they stay in the cache
        for t, target in enumerate(out):
            crop.apply_image(clip.y[t], out=y)
            half.apply_image(clip.u[t], out=u)
            half.apply_image(clip.v[t], out=v)
            yuv_to_rgb(y, u, v, clip.matrix, out=target)
    else:
        for source, target in zip(clip, out, strict=True):
            crop.apply_image(source, out=target)
    return out


def recolor_clip(frames, augmentation):
    """Apply all of `augmentation` but its crop: uint8 (T, H, W, 3) -> uint8 (T, H, W, 3); may overwrite `frames`."""
    if augmentation.flip:
        for frame in frames:
            cv2.flip(frame, 1, dst=frame)
    for name, value in augmentation.jitter:
        color.ADJUSTMENTS[name](frames, value)
    is_gray = augmentation.grayscale or augmentation.temporal_difference
    if is_gray:
        frames = color.to_gray(frames)  # one channel until the end
    if augmentation.temporal_difference:
        frames = color.temporal_difference(frames)
    if augmentation.blur_sigma > 0:
        frames = color.gaussian_blur(frames, augmentation.blur_sigma)
    return color.from_gray(frames) if is_gray else frames
