"""From a record to clips, on videos whose frames say which one they are."""

import functools

import numpy as np
import pytest
import torch
from scipy import stats

from vdet_ssl.config import get_cfg
from vdet_ssl.data.mappers import VideoMapper
from vdet_ssl.data.mappers.decoder import Decoder
from vdet_ssl.data.transforms import CropResize, augment_batch
from vdet_ssl.data.video.reader import decode_clips
from vdet_ssl.errors import ConfigError, VideoError


@pytest.fixture(scope="module")
def video(make_video, tmp_path_factory):
    """4 seconds at 30 frames a second."""
    path = make_video(tmp_path_factory.mktemp("videos") / "numbers.mp4", 30, 120, size=(96, 128), bframes=2, gop=12)
    return {"file_name": str(path), "video_id": "numbers", "duration_s": 4.0}


def make_cfg(**overrides):
    """Clips of 4 x 5 frames; without crop, flip or colours unless asked for, so that numbers can be read."""
    cfg = get_cfg()
    plain = {
        "NUM_FRAMES": 4,
        "SAMPLING_RATE": 5,
        "CROP__TYPE": "none",
        "MIN_SIZE_TRAIN": (96, 96),
        "RANDOM_FLIP": "none",
    }
    options = {**plain, **overrides}
    cfg.merge_from_list([x for k, v in options.items() for x in ("INPUT." + k.replace("__", "."), v)])
    return cfg


def make_mapper(**overrides):
    return VideoMapper.for_pretraining(make_cfg(**overrides))


def numbers_of(sample, read_number):
    """The numbers painted into the frames of each clip."""
    return [[read_number(frame) for frame in clip] for clip in sample["clips"]]


AUGMENTED = {
    "CROP__TYPE": "inception",
    "CROP__SIZE": [48, 48],
    "RANDOM_FLIP": "horizontal",
    "COLOR__JITTER_PROB": 0.8,
    "COLOR__GRAYSCALE_PROB": 0.2,
    "COLOR__TEMPORAL_DIFFERENCE_PROB": 0.2,
    "COLOR__BLUR_PROB": 0.5,
}


def test_clips_show_the_frames_of_their_start_times(video, read_number):
    mapper = make_mapper(NUM_CLIPS=3)
    for seed in range(5):
        sample = mapper(video, np.random.default_rng(seed))
        assert sample["video_id"] == "numbers" and sample["file_name"] == video["file_name"]
        assert "label" not in sample and "transforms" not in sample
        assert len(sample["clips"]) == len(sample["start_times_s"]) == 3
        for clip, start_s in zip(sample["clips"], sample["start_times_s"], strict=True):
            assert clip.shape == (4, 96, 128, 3) and clip.dtype == torch.uint8 and clip.is_contiguous()
            first = int((start_s + 1e-3) * 30)
            assert [read_number(frame) for frame in clip] == [first, first + 5, first + 10, first + 15]


def test_start_times_reach_all_of_the_video_and_keep_t_max(video):
    mapper = make_mapper(T_MAX_S=1.0)
    starts = np.array([mapper(video, np.random.default_rng(seed))["start_times_s"] for seed in range(100)])
    assert np.ptp(starts, axis=1).max() <= 1.0
    assert starts.min() < 0.3 and starts.max() > 4 - 20 / 30 - 0.3 and starts.max() <= 4 - 20 / 30


def test_one_clip_gives_two_crops_of_the_same_frames(video, read_number):
    sample = make_mapper(NUM_CLIPS=1)(video, np.random.default_rng(0))
    first, second = sample["clips"]
    assert sample["start_times_s"][0] == sample["start_times_s"][1]
    assert torch.equal(first, second)  # nothing random is left but the time
    first, second = make_mapper(NUM_CLIPS=1, **AUGMENTED)(video, np.random.default_rng(0))["clips"]
    assert first.shape == second.shape == (4, 48, 48, 3) and not torch.equal(first, second)


def test_the_sample_follows_from_the_generator_alone(video):
    mapper = make_mapper(FRAME_RATE_JITTER=0.5, **AUGMENTED)
    first, again, other = (mapper(video, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first["start_times_s"] == again["start_times_s"] != other["start_times_s"]
    assert all(torch.equal(a, b) for a, b in zip(first["clips"], again["clips"], strict=True))


def test_frame_rate_jitter_plays_each_clip_at_its_own_speed(video, read_number):
    mapper = make_mapper(FRAME_RATE_JITTER=0.5, NUM_CLIPS=3)
    steps = []
    for seed in range(40):
        for clip in mapper(video, np.random.default_rng(seed))["clips"]:
            numbers = [read_number(frame) for frame in clip]
            assert numbers[-1] < 119  # the longest span was reckoned with: nothing is held
            steps.append((numbers[-1] - numbers[0]) / 15)
    rounding = np.random.default_rng(0).uniform(-1 / 30, 1 / 30, len(steps))
    assert stats.kstest(np.array(steps) + rounding, "uniform", (0.5, 1)).pvalue > 1e-3


def test_tau_counts_frames_of_the_configured_rate_or_of_the_video(make_video, tmp_path, read_number):
    path = make_video(tmp_path / "sixty.mp4", 60, 120)
    record = {"file_name": str(path), "video_id": "sixty"}  # the file tells how long it is
    for frame_rate, step in ((30.0, 10), (0.0, 5)):
        clip = make_mapper(FRAME_RATE=frame_rate)(record, np.random.default_rng(0))["clips"][0]
        assert np.diff([read_number(frame) for frame in clip]).tolist() == [step] * 3


def test_linspace_spacing(video, read_number):
    mapper = make_mapper(FRAME_SPACING="linspace", NUM_FRAMES=3, SAMPLING_RATE=5)
    clip = mapper(video, np.random.default_rng(0))["clips"][0]
    assert np.diff([read_number(frame) for frame in clip]).tolist() == [7, 7]


def test_a_video_shorter_than_a_clip_holds_its_last_frame(make_video, tmp_path, read_number):
    record = {"file_name": str(make_video(tmp_path / "short.mp4", 30, 12)), "video_id": "short"}
    sample = make_mapper(NUM_CLIPS=2)(record, np.random.default_rng(0))
    assert sample["start_times_s"] == [0.0, 0.0]
    assert [read_number(frame) for frame in sample["clips"][1]] == [0, 5, 10, 11]


def test_features_are_those_of_the_middle_of_video_and_frame(video, read_number):
    options = {**AUGMENTED, "CROP__SIZE": [96, 96], "MIN_SIZE_TEST": 96, "NUM_CLIPS": 4, "FRAME_RATE_JITTER": 0.5}
    mapper = VideoMapper.for_features(make_cfg(**options))
    sample = mapper({**video, "label": 7}, np.random.default_rng(0))
    (clip,) = sample["clips"]
    assert clip.shape == (4, 96, 96, 3) and sample["label"] == 7
    assert sample["start_times_s"] == [pytest.approx(5 / 3)]
    assert torch.equal(clip, mapper(video, np.random.default_rng(1))["clips"][0])
    times_s = 5 / 3 + np.arange(4) / 6
    (planes,) = decode_clips(video["file_name"], [times_s], backend="pyav", timeout_s=0, pixel_format="yuv")
    expected = CropResize(0, 0, 128, 96, 96, 128).apply_clip(planes)[:, :, 16:112]
    assert (clip[:, :, 1:-1].numpy() == expected[:, :, 1:-1]).all()  # at the crop's border chroma has no neighbour


def test_classification_trains_on_one_random_clip(video, read_number):
    mapper = VideoMapper.for_classification(make_cfg(), is_train=True)
    starts = []
    for seed in range(100):
        sample = mapper({**video, "label": 1}, np.random.default_rng(seed))
        (numbers,) = numbers_of(sample, read_number)
        assert sample["label"] == 1 and np.diff(numbers).tolist() == [5, 5, 5]
        starts += sample["start_times_s"]
    assert stats.kstest(starts, "uniform", (0, 4 - 20 / 30)).pvalue > 1e-3


def test_classification_by_default_is_tested_on_what_features_are_of(video):
    cfg = make_cfg(CROP__SIZE=[96, 96], MIN_SIZE_TEST=96)
    mappers = VideoMapper.for_classification(cfg, is_train=False), VideoMapper.for_features(cfg)
    first, second = (mapper(video, np.random.default_rng(seed)) for seed, mapper in enumerate(mappers))
    assert first["start_times_s"] == second["start_times_s"] and len(first["clips"]) == 1
    assert torch.equal(first["clips"][0], second["clips"][0])


def paint_columns(number, time_s, height, width):
    """The left third red, the middle one green, the right one blue."""
    frame = np.zeros((height, width, 3), np.uint8)
    for channel, columns in enumerate(np.array_split(np.arange(width), 3)):
        frame[:, columns, channel] = 200
    return frame


@pytest.mark.parametrize("is_wide", [True, False])
def test_spatial_crops_lie_along_the_longer_side(make_video, tmp_path, is_wide):
    painter = paint_columns if is_wide else lambda n, t, h, w: paint_columns(n, t, w, h).swapaxes(0, 1)
    path = make_video(tmp_path / "columns.mp4", 30, 30, size=(64, 192) if is_wide else (192, 64), painter=painter)
    cfg = make_cfg(CROP__SIZE=[64, 64], MIN_SIZE_TEST=64)
    mapper = VideoMapper.for_classification(cfg, is_train=False, num_test_crops=3)
    clips = mapper({"file_name": str(path), "video_id": "columns"}, np.random.default_rng(0))["clips"]
    assert [clip.shape for clip in clips] == [(4, 64, 64, 3)] * 3
    for channel, clip in enumerate(clips):
        assert clip[:, 4:-4, 4:-4, channel].min() > 150
        assert clip[:, 4:-4, 4:-4].float().mean((0, 1, 2)).argmax() == channel


class CountingDecoder(Decoder):
    """Counts how often it opens a video."""

    opened = 0

    def open(self, path):
        type(self).opened += 1
        return super().open(path)


def test_views_are_clip_after_clip_and_come_from_one_open_of_the_file(make_video, tmp_path, read_number):
    """The numbers are in the first of the two crops."""
    path = make_video(tmp_path / "tall.mp4", 30, 120, size=(192, 128))
    cfg = make_cfg(CROP__SIZE=[96, 128], MIN_SIZE_TEST=128)
    mapper = VideoMapper.for_classification(cfg, is_train=False, num_test_clips=6, num_test_crops=2)
    mapper.decoder = CountingDecoder("pyav", 0.0)
    sample = mapper({"file_name": str(path), "video_id": "tall"}, np.random.default_rng(0))
    assert CountingDecoder.opened == 1
    assert sample["start_times_s"] == pytest.approx([i * (4 - 20 / 30) / 5 for i in range(6) for _ in range(2)])
    upper, lower = sample["clips"][::2], sample["clips"][1::2]
    assert numbers_of({"clips": upper}, read_number) == [[i, i + 5, i + 10, i + 15] for i in range(0, 101, 20)]
    (planes,) = decode_clips(path, [np.arange(4) / 6], backend="pyav", timeout_s=0, pixel_format="yuv")
    np.testing.assert_array_equal(lower[0], CropResize(0, 96, 128, 96, 96, 128).apply_clip(planes))


def test_a_clip_of_segments_covers_the_video(make_video, tmp_path, read_number):
    record = {"file_name": str(make_video(tmp_path / "square.mp4", 30, 120, size=(128, 128))), "video_id": "square"}
    cfg = make_cfg(CROP__SIZE=[128, 128], MIN_SIZE_TEST=128, MIN_SIZE_TRAIN=(128, 128), SAMPLING_RATE=100)
    test, train = (VideoMapper.for_classification(cfg, is_train, by_segments=True) for is_train in (False, True))
    sample = test(record, np.random.default_rng(0))
    assert numbers_of(sample, read_number) == [[15, 45, 74, 104]] and sample["start_times_s"] == [0.5]
    edges = [0, 30, 60, 89, 119]
    drawn = [numbers_of(train(record, np.random.default_rng(seed)), read_number)[0] for seed in range(60)]
    for frames, first, last in zip(np.transpose(drawn), edges[:-1], edges[1:], strict=True):
        assert first <= frames.min() < first + 5 and last - 5 < frames.max() <= last
    with pytest.raises(ValueError, match="one clip of segments"):
        VideoMapper.for_classification(make_cfg(), False, by_segments=True, num_test_clips=2)


def test_augmentation_left_to_the_model_gives_the_same_clips(video):
    on_cpu, on_model = (make_mapper(AUGMENTATION_DEVICE=device, **AUGMENTED) for device in ("cpu", "model"))
    for seed in range(10):
        expected = on_cpu(video, np.random.default_rng(seed))
        sample = on_model(video, np.random.default_rng(seed))
        assert len(sample["transforms"]) == 2
        (done,) = augment_batch([sample], torch.device("cpu"))
        assert done.keys() == expected.keys()
        for ours, theirs in zip(done["clips"], expected["clips"], strict=True):
            difference = (ours.int() - theirs.int()).abs().float()
            assert difference.quantile(0.99) <= 2 and difference.mean() < 0.3


def test_cropping_planes_is_close_to_cropping_rgb(shared_videos):
    """Converting after the crop only: chroma is interpolated then, instead of repeated."""
    path = min(shared_videos.rglob("*.mp4"))
    times_s = [np.arange(4) * 0.2]
    (planes,) = decode_clips(path, times_s, backend="pyav", timeout_s=0, pixel_format="yuv")
    (rgb,) = decode_clips(path, times_s, backend="pyav", timeout_s=0)
    for x0, y0, w, h in ((11, 7, 151, 143), (20, 10, 200, 200), (0, 0, rgb.shape[2], rgb.shape[1])):
        crop = CropResize(x0, y0, w, h, 160, 160)
        difference = np.abs(crop.apply_clip(planes).astype(int) - crop.apply_clip(rgb))
        assert difference.mean() < 2


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        make_mapper()({"file_name": str(path), "video_id": "broken"}, np.random.default_rng(0))


def test_a_mapper_reads_only_the_keys_that_it_depends_on():
    def reads(build, **overrides):
        cfg = make_cfg(**overrides)
        build(cfg)
        return {name[6:] for name in cfg.record.reads if name.startswith("INPUT.")} - {"CROP", "COLOR"}

    clip, decoding = {"NUM_FRAMES", "SAMPLING_RATE", "FRAME_RATE", "FRAME_SPACING"}, {"DECODER"}
    view = {"MIN_SIZE_TEST", "CROP.SIZE"}
    assert reads(VideoMapper.for_features) == {*clip, *decoding, *view}
    by_segments = functools.partial(VideoMapper.for_classification, is_train=False, by_segments=True)
    assert reads(by_segments) == {"NUM_FRAMES", "FRAME_RATE", *decoding, *view}
    drawn = {"NUM_CLIPS", "T_MAX_S", "FRAME_RATE_JITTER", "AUGMENTATION_DEVICE", "CROP.TYPE", "RANDOM_FLIP"}
    drawn |= {f"COLOR.{step}_PROB" for step in ("JITTER", "GRAYSCALE", "TEMPORAL_DIFFERENCE", "BLUR")}
    short_side = {"MIN_SIZE_TRAIN", "MIN_SIZE_TRAIN_SAMPLING"}
    pretraining = VideoMapper.for_pretraining
    assert reads(pretraining, CROP__TYPE="none") == {*clip, *decoding, *drawn, *short_side}
    vgg = {"CROP__TYPE": "vgg", "CROP__SIZE": [64, 64]}
    assert reads(pretraining, **vgg) == {*clip, *decoding, *drawn, *short_side, "CROP.SIZE"}
    inception = {"CROP.SIZE", "CROP.AREA", "CROP.ASPECT_RATIO"}
    assert reads(pretraining, **AUGMENTED) == {
        *clip,
        *decoding,
        *drawn,
        *inception,
        "COLOR.STRENGTH",
        "COLOR.BLUR_SIGMA",
    }


@pytest.mark.parametrize(
    "build", [VideoMapper.for_pretraining, functools.partial(VideoMapper.for_classification, is_train=True)]
)
def test_training_without_a_crop_needs_one_size(build):
    with pytest.raises(ConfigError, match=r"CROP.TYPE none .* \(96, 128\): clips of one batch need one size"):
        build(make_cfg(MIN_SIZE_TRAIN=(96, 128)))
    build(make_cfg(MIN_SIZE_TRAIN=(96, 128), CROP__TYPE="vgg", CROP__SIZE=[64, 64]))
