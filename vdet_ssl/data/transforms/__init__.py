"""Augmentation of clips: uint8 in, uint8 out, drawn once per clip (section 4.5, B.1)."""

from vdet_ssl.data.transforms.augmentation import Augmentation, ClipAugmentation, crop_clip, recolor_clip
from vdet_ssl.data.transforms.batched import augment_batch, recolor_clips
from vdet_ssl.data.transforms.crop import CropResize, center_crop, whole_frame

__all__ = [
    "Augmentation",
    "ClipAugmentation",
    "CropResize",
    "augment_batch",
    "center_crop",
    "crop_clip",
    "recolor_clip",
    "recolor_clips",
    "whole_frame",
]
