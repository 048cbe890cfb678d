"""The batched augmentation does what the one in OpenCV does, given the same parameters."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from vdet_ssl.config import get_cfg
from vdet_ssl.data.transforms import ClipAugmentation, ClipTransform, apply_after_crop, augment_batch, batched


def make_clips(num_clips, shape=(5, 40, 48), seed=0):
    rng = np.random.default_rng(seed)
    clips = ndimage.gaussian_filter(rng.normal(size=(num_clips, *shape, 3)), (0, 1, 4, 4, 0))
    return (128 + clips / clips.std() * 70 + rng.normal(size=clips.shape) * 4).clip(0, 255).astype(np.uint8)


def compare(clips, transforms):
    """Return the absolute differences, in grey levels."""
    ours = apply_after_crop(torch.from_numpy(clips.copy()), transforms)
    assert ours.dtype == torch.uint8 and ours.is_contiguous()
    reference = np.stack([t.apply_after_crop(c.copy()) for c, t in zip(clips, transforms, strict=True)])
    return np.abs(ours.numpy().astype(int) - reference)


STEPS = [
    *({"jitter": ((name, factor),)} for name in ("brightness", "contrast", "saturation") for factor in (0.0, 0.4, 1.7)),
    *({"jitter": (("hue", shift),)} for shift in (-0.5, -0.2, 0.03, 0.2)),
    {"flip": True},
    {"grayscale": True},
    {"temporal_difference": True},
    *({"blur_sigma": sigma} for sigma in (0.1, 0.7, 2.0)),
]


def test_each_step_alone_is_that_of_the_cpu():
    differences = compare(make_clips(len(STEPS)), [ClipTransform(crop=None, **step) for step in STEPS])
    assert differences.reshape(len(STEPS), -1).max(1).tolist() == pytest.approx([0] * len(STEPS), abs=1)


@pytest.mark.parametrize("strength", [0.5, 0.75, 1.0])
def test_drawn_augmentations_are_those_of_the_cpu(strength):
    cfg = get_cfg()
    color = cfg.INPUT.COLOR
    color.JITTER_PROB, color.STRENGTH, color.GRAYSCALE_PROB, color.TEMPORAL_DIFFERENCE_PROB = 0.8, strength, 0.2, 0.2
    color.BLUR_PROB = 0.5
    augmentation, rng = ClipAugmentation.for_training(cfg), np.random.default_rng(1)
    drawn = [augmentation.get_transform(rng, 256, 320) for _ in range(48)]
    differences = compare(make_clips(len(drawn)), drawn)
    # Where a step's exact result lies between two grey levels the two may round differently, and the next may magnify it.
    assert np.quantile(differences, 0.999) <= 2 and differences.mean() < 0.1


def test_one_frame_has_no_temporal_difference():
    clips = torch.from_numpy(make_clips(1, shape=(1, 16, 16)))
    assert (apply_after_crop(clips, [ClipTransform(crop=None, temporal_difference=True)]) == 128).all()


def test_augment_batch_keeps_the_order_and_the_rest_of_the_samples(monkeypatch):
    monkeypatch.setattr(batched, "CLIPS_AT_ONCE", 3)
    clips = torch.from_numpy(make_clips(8)).view(4, 2, 5, 40, 48, 3)
    transforms = [ClipTransform(crop=None, jitter=(("brightness", i / 10),), flip=i % 3 == 0) for i in range(8)]
    batch = [
        {"clips": list(clips[i]), "transforms": transforms[2 * i : 2 * i + 2], "video_id": str(i)} for i in range(4)
    ]
    done = augment_batch(batch, "cpu")
    assert [set(x) for x in done] == [{"clips", "video_id"}] * 4 and [x["video_id"] for x in done] == list("0123")
    assert "transforms" in batch[0]  # the input is left as it is
    for i, transform in enumerate(transforms):
        expected = transform.apply_after_crop(clips.flatten(0, 1)[i].numpy().copy())
        assert np.abs(done[i // 2]["clips"][i % 2].numpy().astype(int) - expected).max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_what_the_cpu_gives():
    clips = torch.from_numpy(make_clips(len(STEPS)))
    transforms = [ClipTransform(crop=None, **step) for step in STEPS]
    on_gpu = apply_after_crop(clips.cuda(), transforms).cpu()
    assert (on_gpu.int() - apply_after_crop(clips, transforms).int()).abs().max() <= 1
