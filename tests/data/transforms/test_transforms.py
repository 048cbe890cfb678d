"""Augmentations against float64 definitions (colours, blur) and torchvision's distributions (crops)."""

import colorsys

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torchvision.transforms import v2

from vdet_ssl.config import get_cfg
from vdet_ssl.data.transforms import (
    ClipAugmentation,
    ClipTransform,
    CropResize,
    RandomResizedCrop,
    ShortSide,
    UniformCrop,
    WholeFrame,
    color,
)
from vdet_ssl.errors import ConfigError

LUMA = np.array([0.299, 0.587, 0.114])


def make_cfg(**overrides):
    cfg = get_cfg()
    cfg.merge_from_list([x for key, value in overrides.items() for x in ("INPUT." + key.replace("__", "."), value)])
    return cfg


def make_clip(seed=0, shape=(4, 48, 64)):
    """Smooth moving colours with some noise, using the whole range of grey levels."""
    rng = np.random.default_rng(seed)
    clip = ndimage.gaussian_filter(rng.normal(size=(*shape, 3)), (1, 4, 4, 0))
    clip = 128 + clip / clip.std() * 70 + rng.normal(size=clip.shape) * 5
    return clip.clip(0, 255).astype(np.uint8)


def all_colors():
    """Every 5th level of each channel, as a clip of 4 frames."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), -1).reshape(4, 52, 52 * 13, 3)


def brightness(x, factor):
    return np.clip(x * factor, 0, 255)


def contrast(x, factor):
    return np.clip(factor * x + (1 - factor) * (x @ LUMA).mean(), 0, 255)


def saturation(x, factor):
    return np.clip(factor * x + (1 - factor) * (x @ LUMA)[..., None], 0, 255)


def hue(x, shift):
    flat = []
    for r, g, b in x.reshape(-1, 3) / 255:
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        flat.append(colorsys.hsv_to_rgb((h + shift) % 1, s, v))
    return 255 * np.array(flat).reshape(x.shape)


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.6, 1.0, 1.4, 1.8])
@pytest.mark.parametrize(
    "name, definition", [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)]
)
def test_adjustment_is_within_a_grey_level_of_its_definition(name, definition, factor):
    for clip in (make_clip(), all_colors()):
        ours = color.ADJUSTMENTS[name](clip.copy(), factor)
        assert np.abs(ours - definition(clip.astype(np.float64), factor)).max() <= 1


@pytest.mark.parametrize("shift", [-0.5, -0.2, -0.03, 0.0, 0.07, 0.2])
def test_hue_is_within_a_grey_level_of_its_definition(shift):
    clip = all_colors()[:, ::3, ::4].copy()
    assert np.abs(color.adjust_hue(clip.copy(), shift) - hue(clip, shift)).max() <= 1


@pytest.mark.parametrize("name", ["brightness", "saturation", "hue"])
@pytest.mark.parametrize("value", [-0.15, 0.1, 0.7, 1.3])
def test_adjustment_is_torchvisions(name, value):
    if (name == "hue") != (abs(value) < 0.5):
        return
    clip = make_clip()
    reference = getattr(v2.functional, f"adjust_{name}")(torch.from_numpy(clip).movedim(-1, 1).double() / 255, value)
    ours = color.ADJUSTMENTS[name](clip.copy(), value)
    assert np.abs(ours - 255 * reference.movedim(1, -1).numpy()).max() <= 1


def test_contrast_takes_the_mean_over_the_clip():
    clip = np.concatenate([np.full((1, 8, 8, 3), 40, np.uint8), np.full((1, 8, 8, 3), 200, np.uint8)])
    ours = color.adjust_contrast(clip.copy(), 0.5)
    assert (ours[0] == 80).all() and (ours[1] == 160).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_drawn_jitter_is_close_to_the_exact_chain(seed):
    """A later step can magnify the rounding of an earlier one: the hue of what is nearly gray above all."""
    augmentation = ClipAugmentation.for_training(make_cfg(COLOR__JITTER_PROB=1.0))
    jitter = augmentation.get_transform(np.random.default_rng(seed), 240, 320).jitter
    clip = make_clip(seed, shape=(2, 32, 32))
    exact = clip.astype(np.float64)
    for name, value in jitter:
        exact = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}[name](
            exact, value
        )
    error = np.abs(ClipTransform(crop=None, jitter=jitter).apply_after_crop(clip.copy()) - exact)
    assert np.quantile(error, 0.95) <= 2 and error.mean() <= 0.75


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1.0, 1.37, 2.0])
def test_blur_is_a_gaussian(sigma):
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    exact = ndimage.gaussian_filter(noise.astype(np.float64), (0, sigma, sigma, 0), mode="mirror", truncate=10)
    assert np.abs(color.gaussian_blur(noise.copy(), sigma) - exact).max() <= 1
    reference = v2.functional.gaussian_blur(torch.from_numpy(noise).movedim(-1, 1).double(), [23, 23], [sigma, sigma])
    assert np.abs(color.gaussian_blur(noise.copy(), sigma) - reference.movedim(1, -1).numpy()).max() <= 1


def test_blur_does_not_cross_frames():
    clip = np.zeros((3, 32, 32, 3), np.uint8)
    clip[1] = 255
    np.testing.assert_array_equal(color.gaussian_blur(clip.copy(), 2.0), clip)


def test_temporal_difference():
    clip = make_clip()
    gray = clip.astype(np.float64) @ LUMA
    exact = 128 + (gray[:-1] - gray[1:]) / 2
    exact = np.concatenate([exact, exact[-1:]])[..., None].repeat(3, -1)
    ours = ClipTransform(crop=None, temporal_difference=True).apply_after_crop(clip.copy())
    assert np.abs(ours - exact).max() <= 1
    assert (ClipTransform(crop=None, temporal_difference=True).apply_after_crop(clip[:1].copy()) == 128).all()
    extremes = np.stack([np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8)])
    assert color.temporal_difference(extremes)[:, 0, 0].tolist() == [0, 255, 255]


def test_grayscale():
    clip = make_clip()
    ours = ClipTransform(crop=None, grayscale=True).apply_after_crop(clip.copy())
    assert np.abs(ours - (clip @ LUMA)[..., None]).max() <= 1
    assert ours.shape == clip.shape


def test_flip():
    clip = make_clip()
    np.testing.assert_array_equal(ClipTransform(crop=None, flip=True).apply_after_crop(clip.copy()), clip[:, :, ::-1])


AUG_PLUS = {
    "CROP__TYPE": "inception",
    "CROP__SIZE": [32, 32],
    "COLOR__JITTER_PROB": 0.8,
    "COLOR__STRENGTH": 0.75,
    "COLOR__GRAYSCALE_PROB": 0.2,
    "COLOR__TEMPORAL_DIFFERENCE_PROB": 0.2,
    "COLOR__BLUR_PROB": 0.5,
}


def draw_many(cfg, n=4000, size=(240, 426)):
    augmentation, rng = ClipAugmentation.for_training(cfg), np.random.default_rng(3)
    return [augmentation.get_transform(rng, *size) for _ in range(n)]


def test_a_static_clip_stays_static():
    frame = make_clip(shape=(1, 64, 80))
    augmentation = ClipAugmentation.for_training(make_cfg(**AUG_PLUS))
    for seed in range(40):
        drawn = augmentation.get_transform(np.random.default_rng(seed), 64, 80)
        out = drawn.apply_clip(frame.repeat(5, 0))
        assert out.shape == (5, 32, 32, 3) and out.dtype == np.uint8
        assert (out == out[:1]).all()


def test_draws_follow_from_the_generator_alone():
    augmentation = ClipAugmentation.for_training(make_cfg(**AUG_PLUS))
    first, again, other = (augmentation.get_transform(np.random.default_rng(s), 240, 320) for s in (5, 5, 6))
    assert first == again
    assert first.crop != other.crop


def test_rates():
    drawn = draw_many(make_cfg(**AUG_PLUS))
    for got, expected in (
        (sum(a.flip for a in drawn), 0.5),
        (sum(bool(a.jitter) for a in drawn), 0.8),
        (sum(a.grayscale for a in drawn), 0.2),
        (sum(a.temporal_difference for a in drawn), 0.2),
        (sum(a.blur_sigma > 0 for a in drawn), 0.5),
    ):
        assert stats.binomtest(got, len(drawn), expected).pvalue > 1e-3
    assert stats.kstest([a.blur_sigma for a in drawn if a.blur_sigma], "uniform", (0.1, 1.9)).pvalue > 1e-3
    assert not any(a.flip for a in draw_many(make_cfg(RANDOM_FLIP="none"), n=50))


@pytest.mark.parametrize("strength", [0.5, 0.75, 1.0])
def test_jitter_is_distributed_as_torchvisions(strength):
    s = strength
    drawn = [dict(a.jitter) for a in draw_many(make_cfg(COLOR__JITTER_PROB=1.0, COLOR__STRENGTH=s), n=2000)]
    reference = v2.ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)
    torch.manual_seed(0)
    theirs = [reference.make_params([]) for _ in range(2000)]
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert stats.ks_2samp([d[name] for d in drawn], [t[name + "_factor"] for t in theirs]).pvalue > 1e-3
    orders = [tuple(d) for d in drawn]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    "area, ratio", [((0.2, 0.76), (0.75, 4 / 3)), ((0.49, 0.76), (1.0, 1.0)), ((0.08, 1.0), (0.75, 4 / 3))]
)
def test_inception_crops_are_distributed_as_torchvisions(area, ratio):
    height, width = 240, 426
    ours = [
        a.crop
        for a in draw_many(make_cfg(CROP__TYPE="inception", CROP__AREA=list(area), CROP__ASPECT_RATIO=list(ratio)))
    ]
    torch.manual_seed(0)
    reference = v2.RandomResizedCrop(224, area, ratio)
    frame = torch.empty(3, height, width)
    theirs = [reference.make_params([frame]) for _ in range(len(ours))]
    pairs = [
        ([c.w * c.h for c in ours], [t["width"] * t["height"] for t in theirs]),
        ([c.w / c.h for c in ours], [t["width"] / t["height"] for t in theirs]),
        ([c.x0 for c in ours], [t["left"] for t in theirs]),
        ([c.y0 for c in ours], [t["top"] for t in theirs]),
    ]
    for mine, other in pairs:
        assert stats.ks_2samp(mine, other).pvalue > 1e-3
    assert all(c.x0 >= 0 and c.y0 >= 0 and c.x0 + c.w <= width and c.y0 + c.h <= height for c in ours)


def test_inception_falls_back_to_the_largest_admissible_crop():
    rng = np.random.default_rng(0)
    crop = RandomResizedCrop((1.0, 1.0), (0.75, 4 / 3), (16, 16)).get_transform(rng, 20, 400)
    assert (crop.w, crop.h, crop.x0, crop.y0) == (27, 20, 186, 0)


@pytest.mark.parametrize("size", [(256, 340), (340, 256), (240, 426)])
def test_vgg_crops_have_the_size_of_the_crop_in_the_resized_frame(size):
    """As resizing the whole frame and then cropping: section B.1."""
    ours = [a.crop for a in draw_many(make_cfg(), n=4000, size=size)]
    rng = np.random.default_rng(11)
    theirs = []
    for _ in range(4000):
        short_side = rng.integers(256, 320, endpoint=True)
        scale = min(size) / short_side
        height, width = size[0] / scale, size[1] / scale
        theirs.append((rng.uniform(0, width - 224) * scale, rng.uniform(0, height - 224) * scale, 224 * scale))
    theirs = np.array(theirs) + rng.uniform(-0.5, 0.5, (4000, 3))  # ours are whole pixels: blur both alike
    mine = np.array([(c.x0, c.y0, c.w) for c in ours]) + rng.uniform(-0.5, 0.5, (4000, 3))
    for i in range(3):
        assert stats.ks_2samp(mine[:, i], theirs[:, i]).pvalue > 1e-3
    assert all(c.w == c.h and (c.height, c.width) == (224, 224) for c in ours)


def test_short_side_equal_to_the_crop_moves_along_the_long_side_only():
    """ "Base" of Figure 3."""
    drawn = [a.crop for a in draw_many(make_cfg(MIN_SIZE_TRAIN=(224, 224)), n=300)]
    assert {(c.y0, c.w, c.h) for c in drawn} == {(0, 240, 240)}
    assert min(c.x0 for c in drawn) < 5 and max(c.x0 for c in drawn) > 181


def test_short_sides_by_choice():
    cfg = make_cfg(CROP__TYPE="none", MIN_SIZE_TRAIN=(120, 480), MIN_SIZE_TRAIN_SAMPLING="choice")
    drawn = [a.crop for a in draw_many(cfg, n=100)]
    assert {(c.height, c.width) for c in drawn} == {(120, 213), (480, 852)}
    assert {(c.x0, c.y0, c.w, c.h) for c in drawn} == {(0, 0, 426, 240)}


def test_evaluation_takes_the_middle_and_leaves_the_colours():
    (augmentation,) = ClipAugmentation.for_views(make_cfg(**AUG_PLUS, MIN_SIZE_TEST=48))
    drawn = augmentation.get_transform(np.random.default_rng(0), 240, 426)
    assert (drawn.crop.x0, drawn.crop.y0, drawn.crop.w, drawn.crop.h) == (133, 40, 160, 160)
    assert not (drawn.flip or drawn.jitter or drawn.grayscale or drawn.temporal_difference or drawn.blur_sigma)


@pytest.mark.parametrize("position, x0", [(0.0, 0), (0.25, 66), (0.5, 133), (1.0, 266)])
def test_uniform_crops_lie_along_the_longer_side(position, x0):
    crop = UniformCrop(48, (32, 32), position)
    rng = np.random.default_rng(0)
    assert crop.get_transform(rng, 240, 426) == CropResize(x0, 40, 160, 160, 32, 32)
    assert crop.get_transform(rng, 426, 240) == CropResize(40, x0, 160, 160, 32, 32)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_follow_the_pixels(flip):
    clip = np.zeros((2, 100, 160, 3), np.uint8)
    clip[:, 30:50, 60:100] = 255
    for crop in (
        CropResize(20, 10, 120, 80, 160, 240),
        CropResize(50, 25, 60, 30, 60, 60),
        WholeFrame(ShortSide([50], "choice")).get_transform(np.random.default_rng(0), 100, 160),
    ):
        transform = ClipTransform(crop, flip)
        frame = transform.apply_clip(clip)[1, ..., 0]
        x0, y0, x1, y1 = transform.apply_box(np.array([[60.0, 30, 100, 50]]))[0]
        columns, rows = np.where(frame.max(0) > 127)[0], np.where(frame.max(1) > 127)[0]
        assert abs(columns[0] - x0) <= 1 and abs(columns[-1] + 1 - x1) <= 1
        assert abs(rows[0] - y0) <= 1 and abs(rows[-1] + 1 - y1) <= 1


def test_crop_is_that_of_the_resized_frame():
    clip = make_clip(shape=(2, 128, 192))
    crop = CropResize(32, 16, 96, 96, 144, 144)
    whole = np.stack([cv2.resize(f, (288, 192)) for f in clip])
    assert np.abs(crop.apply_clip(clip)[:, 4:-4, 4:-4] - whole[:, 28:164, 52:188].astype(int)).max() <= 1


@pytest.mark.parametrize("factor", [2.0, 2.5, 4.0, 6.3])
def test_shrinking_averages_over_all_pixels(factor):
    size = round(60 * factor)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    small = CropResize(0, 0, size, size, 60, 60).apply_image(noise)
    assert small.shape == (60, 60, 3)
    assert small.std() < 1.2 * noise.std() / factor  # bilinear alone leaves about half of it, whatever the factor


def test_a_crop_that_does_not_fit_is_refused():
    cfg = make_cfg(CROP__SIZE=[288, 240], MIN_SIZE_TRAIN=(280, 320), MIN_SIZE_TEST=256)
    with pytest.raises(ConfigError, match=r"INPUT.CROP.SIZE \[288, 240\] .* 280 \(INPUT.MIN_SIZE_TRAIN\)"):
        ClipAugmentation.for_training(cfg)
    with pytest.raises(ConfigError, match=r"INPUT.CROP.SIZE \[288, 240\] .* 256 \(INPUT.MIN_SIZE_TEST\)"):
        ClipAugmentation.for_views(cfg)


@pytest.mark.parametrize("sizes", [(), (96, 112, 128), (128, 96)])
def test_short_sides_that_cannot_be_a_range_are_refused(sizes):
    cfg = make_cfg(MIN_SIZE_TRAIN=sizes, MIN_SIZE_TRAIN_SAMPLING="range", CROP__SIZE=[64, 64])
    with pytest.raises(ConfigError, match="INPUT.MIN_SIZE_TRAIN is .* takes"):
        ClipAugmentation.for_training(cfg)
