"""The augmentation of clips: drawn once per clip, the same for all its frames (section 4.5, B.1)."""

import numpy as np

from vdet_ssl.config import CfgNode
from vdet_ssl.data.transforms.crop import (
    CropAugmentation,
    RandomCrop,
    RandomResizedCrop,
    ShortSide,
    UniformCrop,
    WholeFrame,
)
from vdet_ssl.data.transforms.transform import ClipTransform
from vdet_ssl.errors import ConfigError


class ClipAugmentation:
    """Draws what happens to clips; only the crop has to be said.

    Args:
        crop: draws the crop.
        flip_prob, jitter_prob, grayscale_prob, temporal_difference_prob, blur_prob: of each step.
        color_strength: s; brightness, contrast and saturation vary by +-0.8s, hue by +-0.2s.
        blur_sigma: lower and upper bound in pixels.
    """

    def __init__(
        self,
        *,
        crop: CropAugmentation,
        flip_prob: float = 0.0,
        jitter_prob: float = 0.0,
        color_strength: float = 0.0,
        grayscale_prob: float = 0.0,
        temporal_difference_prob: float = 0.0,
        blur_prob: float = 0.0,
        blur_sigma: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.crop = crop
        self.flip_prob = flip_prob
        self.jitter_prob = jitter_prob
        factors = (max(1 - 0.8 * color_strength, 0.0), 1 + 0.8 * color_strength)
        shifts = (-0.2 * color_strength, 0.2 * color_strength)
        self.jitter_ranges = {"brightness": factors, "contrast": factors, "saturation": factors, "hue": shifts}
        self.grayscale_prob = grayscale_prob
        self.temporal_difference_prob = temporal_difference_prob
        self.blur_prob = blur_prob
        self.blur_sigma = blur_sigma

    @classmethod
    def for_training(cls, cfg: CfgNode) -> "ClipAugmentation":
        """Return the augmentation that INPUT describes; a key that nothing depends on is not read.

        Raises:
            ConfigError: INPUT.CROP.SIZE is larger than the frames, or nothing can be drawn from INPUT.MIN_SIZE_TRAIN.
        """
        color = cfg.INPUT.COLOR
        return cls(
            crop=_training_crop(cfg),
            flip_prob=0.5 if cfg.INPUT.RANDOM_FLIP == "horizontal" else 0.0,
            jitter_prob=color.JITTER_PROB,
            color_strength=color.STRENGTH if color.JITTER_PROB > 0 else 0.0,
            grayscale_prob=color.GRAYSCALE_PROB,
            temporal_difference_prob=color.TEMPORAL_DIFFERENCE_PROB,
            blur_prob=color.BLUR_PROB,
            blur_sigma=tuple(color.BLUR_SIGMA) if color.BLUR_PROB > 0 else (0.0, 0.0),
        )

    @classmethod
    def for_views(cls, cfg: CfgNode, num_crops: int = 1) -> list["ClipAugmentation"]:
        """Return what draws nothing but takes INPUT.CROP.SIZE, the shorter side being INPUT.MIN_SIZE_TEST.

        Args:
            num_crops: how many there are, spread evenly along the longer side; one is in the middle.
        Raises:
            ConfigError: INPUT.CROP.SIZE is larger than the frames.
        """
        short_side = cfg.INPUT.MIN_SIZE_TEST
        size = _crop_size(cfg, "MIN_SIZE_TEST", short_side)
        positions = [0.5] if num_crops == 1 else np.linspace(0.0, 1.0, num_crops).tolist()
        return [cls(crop=UniformCrop(short_side, size, position)) for position in positions]

    @classmethod
    def for_whole_frames(cls, cfg: CfgNode) -> "ClipAugmentation":
        """Return what draws nothing: the whole frame, its shorter side INPUT.MIN_SIZE_TEST."""
        return cls(crop=WholeFrame(ShortSide([cfg.INPUT.MIN_SIZE_TEST], "choice")))

    def get_transform(self, rng: np.random.Generator, height: int, width: int) -> ClipTransform:
        """Draw what happens to one clip.

        Args:
            rng: the only source of anything random.
            height, width: of the source frames, in pixels.
        """
        return ClipTransform(
            crop=self.crop.get_transform(rng, height, width),
            flip=rng.random() < self.flip_prob,
            jitter=self._draw_jitter(rng),
            grayscale=rng.random() < self.grayscale_prob,
            temporal_difference=rng.random() < self.temporal_difference_prob,
            blur_sigma=rng.uniform(*self.blur_sigma) if rng.random() < self.blur_prob else 0.0,
        )

    def _draw_jitter(self, rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
        """Draw the factors of the four adjustments and their order, as torchvision's ColorJitter does."""
        if rng.random() >= self.jitter_prob:
            return ()
        jitter = [(name, rng.uniform(*bounds)) for name, bounds in self.jitter_ranges.items()]
        return tuple(jitter[i] for i in rng.permutation(len(jitter)))


def _training_crop(cfg: CfgNode) -> CropAugmentation:
    kind = cfg.INPUT.CROP.TYPE
    if kind == "inception":
        area, aspect_ratio = tuple(cfg.INPUT.CROP.AREA), tuple(cfg.INPUT.CROP.ASPECT_RATIO)
        return RandomResizedCrop(area, aspect_ratio, tuple(cfg.INPUT.CROP.SIZE))
    short_side = _training_short_side(cfg)
    if kind == "none":
        return WholeFrame(short_side)
    return RandomCrop(short_side, _crop_size(cfg, "MIN_SIZE_TRAIN", min(short_side.sizes)))


def _training_short_side(cfg: CfgNode) -> ShortSide:
    """Return what draws from INPUT.MIN_SIZE_TRAIN; ConfigError if it is not what MIN_SIZE_TRAIN_SAMPLING takes."""
    sizes, sampling = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if len(sizes) == 0:
        raise ConfigError("INPUT.MIN_SIZE_TRAIN is empty; it takes at least one size")
    if sampling == "range" and (len(sizes) > 2 or sizes[0] > sizes[-1]):
        raise ConfigError(
            f'INPUT.MIN_SIZE_TRAIN is {sizes}; with INPUT.MIN_SIZE_TRAIN_SAMPLING "range" it takes the smallest and the '
            'largest size, in this order; "choice" takes any number of sizes'
        )
    return ShortSide(sizes, sampling)


def _crop_size(cfg: CfgNode, short_side_key: str, short_side: int) -> tuple[int, int]:
    """Return INPUT.CROP.SIZE; ConfigError if it does not fit into frames with this shorter side."""
    height, width = cfg.INPUT.CROP.SIZE
    if short_side < max(height, width):
        raise ConfigError(
            f"INPUT.CROP.SIZE {[height, width]} does not fit into frames whose shorter side is {short_side} "
            f"(INPUT.{short_side_key})"
        )
    return height, width
