"""From a record to clips, on videos whose frames say which one they are."""

import numpy as np
import pytest
import torch
from scipy import stats

from vdet_ssl.config import get_cfg
from vdet_ssl.data.mappers.videos import PretrainMapper
from vdet_ssl.data.transforms import CropResize, augment_batch, crop_clip, whole_frame
from vdet_ssl.data.video.reader import decode_clips
from vdet_ssl.errors import VideoError


@pytest.fixture(scope="module")
def video(make_video, tmp_path_factory):
    """4 seconds at 30 frames a second."""
    path = make_video(tmp_path_factory.mktemp("videos") / "numbers.mp4", 30, 120, size=(96, 128), bframes=2, gop=12)
    return {"file_name": str(path), "video_id": "numbers", "duration_s": 4.0}


def make_mapper(is_train=True, **overrides):
    """A mapper of 4 x 5 clips; without crop, flip or colours unless asked for, so that numbers can be read."""
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
    return PretrainMapper(cfg, is_train)


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
        assert "label" not in sample and "augmentations" not in sample
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


def test_evaluation_takes_the_middle_of_video_and_frame(video, read_number):
    options = {**AUGMENTED, "CROP__SIZE": [96, 96], "MIN_SIZE_TEST": 96, "NUM_CLIPS": 4, "FRAME_RATE_JITTER": 0.5}
    mapper = make_mapper(is_train=False, **options)
    sample = mapper({**video, "label": 7}, np.random.default_rng(0))
    (clip,) = sample["clips"]
    assert clip.shape == (4, 96, 96, 3) and sample["label"] == 7
    assert sample["start_times_s"] == [pytest.approx(5 / 3)]
    assert torch.equal(clip, mapper(video, np.random.default_rng(1))["clips"][0])
    times_s = 5 / 3 + np.arange(4) / 6
    (planes,) = decode_clips(video["file_name"], [times_s], backend="pyav", timeout_s=0, pixel_format="yuv")
    expected = crop_clip(planes, whole_frame(96, 128, 96))[:, :, 16:112]
    assert (clip[:, :, 1:-1].numpy() == expected[:, :, 1:-1]).all()  # at the crop's border chroma has no neighbour


def test_augmentation_left_to_the_model_gives_the_same_clips(video):
    on_cpu, on_model = (make_mapper(AUGMENTATION_DEVICE=device, **AUGMENTED) for device in ("cpu", "model"))
    for seed in range(10):
        expected = on_cpu(video, np.random.default_rng(seed))
        sample = on_model(video, np.random.default_rng(seed))
        assert len(sample["augmentations"]) == 2
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
        difference = np.abs(crop_clip(planes, crop).astype(int) - crop_clip(rgb, crop))
        assert difference.mean() < 2


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        make_mapper()({"file_name": str(path), "video_id": "broken"}, np.random.default_rng(0))


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"NUM_CLIPS": 0}, "INPUT.NUM_CLIPS"),
        ({"FRAME_RATE_JITTER": 1.0}, "INPUT.FRAME_RATE_JITTER"),
        ({"AUGMENTATION_DEVICE": "gpu"}, "INPUT.AUGMENTATION_DEVICE"),
    ],
)
def test_contradicting_settings_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        make_mapper(**overrides)
