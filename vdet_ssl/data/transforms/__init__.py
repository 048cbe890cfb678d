"""Augmentations draw, transforms are what was drawn: uint8 in, uint8 out, once per clip (section 4.5, B.1)."""

from vdet_ssl.data.transforms.augmentation import ClipAugmentation
from vdet_ssl.data.transforms.batched import apply_after_crop, augment_batch
from vdet_ssl.data.transforms.crop import (
    CropResize,
    RandomCrop,
    RandomResizedCrop,
    ShortSide,
    UniformCrop,
    WholeFrame,
)
from vdet_ssl.data.transforms.transform import ClipTransform

__all__ = [
    "ClipAugmentation",
    "ClipTransform",
    "CropResize",
    "RandomCrop",
    "RandomResizedCrop",
    "ShortSide",
    "UniformCrop",
    "WholeFrame",
    "apply_after_crop",
    "augment_batch",
]
