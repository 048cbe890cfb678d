import cv2
import numpy as np
import pytest
import torch

from vdet_ssl.config import get_cfg
from vdet_ssl.data.mappers import KeyFrameMapper
from vdet_ssl.errors import VideoError

FPS, NUM_FRAMES = 30, 90
BOX = np.float32([0.25, 0.3, 0.45, 0.8])  # XYXY of what paint_box paints


def config(**changes):
    cfg = get_cfg()
    cfg.INPUT.NUM_FRAMES, cfg.INPUT.SAMPLING_RATE = 4, 3
    cfg.INPUT.MIN_SIZE_TEST = 96
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.SIZE = (96, 120), [80, 80]
    cfg.merge_from_list([x for key, value in changes.items() for x in (key.replace("__", "."), value)])
    return cfg


def record_of(path, timestamp="0001", **more):
    return {
        "file_name": str(path),
        "video_id": "v",
        "timestamp": timestamp,
        "timestamp_s": float(timestamp),
        "start_s": 0.0,
        "boxes": BOX[None],
        "classes": np.array([[True, False, True]]),
        **more,
    }


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def movie(make_video, tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("movie") / "v.mp4", FPS, NUM_FRAMES, size=(96, 128), lossless=True)


@pytest.fixture(scope="module")
def frames(make_video, tmp_path_factory, movie):
    """Folder of the movie's frames, as PySlowFast extracts them."""
    import av

    folder = tmp_path_factory.mktemp("frames") / "v"
    folder.mkdir()
    with av.open(str(movie)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            cv2.imwrite(
                str(folder / f"v_{i + 1:06d}.jpg"), frame.to_ndarray(format="bgr24"), [cv2.IMWRITE_JPEG_QUALITY, 98]
            )
    return folder


@pytest.fixture(params=["movie", "frames"])
def source(request, movie, frames):
    """What a record says about where its frames are."""
    if request.param == "movie":
        return {"file_name": str(movie)}
    return {"file_name": str(frames), "frame_rate": float(FPS)}


@pytest.mark.parametrize(
    "timestamp, numbers",
    [
        ("1", [24, 27, 30, 33]),
        ("0001.5", [39, 42, 45, 48]),
        ("0", [0, 0, 0, 3]),
        ("0.1", [0, 0, 3, 6]),
        ("2.9", [81, 84, 87, 89]),
        ("3", [84, 87, 89, 89]),
    ],
)
def test_frames_around_the_key_frame(source, read_number, timestamp, numbers):
    sample = KeyFrameMapper(config(), is_train=False)(record_of("", timestamp, **source), rng())
    assert [read_number(frame) for frame in sample["clip"]] == numbers
    assert sample["clip"].dtype == torch.uint8 and sample["clip"].shape == (4, 96, 128, 3)
    assert (sample["height"], sample["width"]) == (96, 128)
    assert (sample["video_id"], sample["timestamp"], sample["timestamp_s"]) == ("v", timestamp, float(timestamp))
    assert "instances" not in sample and "proposals" not in sample


def test_frame_rate(source, read_number):
    def numbers(frame_rate):
        sample = KeyFrameMapper(config(INPUT__FRAME_RATE=frame_rate), is_train=False)(record_of("", **source), rng())
        return [read_number(frame) for frame in sample["clip"]]

    assert numbers(10.0) == [12, 21, 30, 39]
    assert numbers(0.0) == numbers(30.0) == [24, 27, 30, 33]


def test_frame_spacing_has_no_meaning_around_a_key_frame(source, read_number):
    cfg = config(INPUT__FRAME_SPACING="linspace")
    mapper = KeyFrameMapper(cfg, is_train=False)
    assert [read_number(frame) for frame in mapper(record_of("", **source), rng())["clip"]] == [24, 27, 30, 33]
    assert "INPUT.FRAME_SPACING" not in cfg.record.reads


def test_movie_that_does_not_start_at_zero(source, read_number):
    record = record_of("", "0902", start_s=900.0, **source)
    sample = KeyFrameMapper(config(), is_train=False)(record, rng())
    assert [read_number(frame) for frame in sample["clip"]] == [54, 57, 60, 63]


@pytest.mark.parametrize("timestamp, start_s", [("3.5", 0.0), ("899", 900.0), ("0904", 900.0)])
def test_key_frame_outside_the_movie(source, timestamp, start_s):
    reason = rf"{source['file_name']}: has a key frame at {timestamp} s, but reaches from {start_s:.2f} to {start_s + 3:.2f} s"
    with pytest.raises(VideoError, match=reason):
        KeyFrameMapper(config(), is_train=False)(record_of("", timestamp, start_s=start_s, **source), rng())


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"no image")])
def test_missing_frame_is_named(frames, tmp_path, damage):
    folder = tmp_path / "v"
    folder.mkdir()
    for path in frames.iterdir():
        (folder / path.name).symlink_to(path)
    broken = folder / "v_000028.jpg"
    broken.unlink()
    broken.touch()
    damage(broken)
    with pytest.raises(VideoError, match="v_000028.jpg: the frame is missing or is not an image"):
        KeyFrameMapper(config(), is_train=False)(record_of(folder, frame_rate=30.0), rng())


def test_folder_without_frames(tmp_path):
    (tmp_path / "v").mkdir()
    with pytest.raises(VideoError, match="v: has a key frame at 0001 s, but reaches from 0.00 to 0.00 s"):
        KeyFrameMapper(config(), is_train=False)(record_of(tmp_path / "v", frame_rate=30.0), rng())


def test_frames_of_several_sizes(frames, tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for path in frames.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "v_000028.jpg").unlink()
    cv2.imwrite(str(folder / "v_000028.jpg"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(VideoError, match="v: the frames around 0001 s are not of one size"):
        KeyFrameMapper(config(), is_train=False)(record_of(folder, frame_rate=30.0), rng())


def test_movie_that_cannot_be_read(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match="v.mp4"):
        KeyFrameMapper(config(), is_train=False)(record_of(tmp_path / "v.mp4"), rng())


def paint_box(number, time_s, height, width):
    """A red rectangle at BOX on blue, and a white mark in the upper left corner."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 2] = 200
    x0, y0, x1, y1 = (BOX * [width, height, width, height]).round().astype(int)
    frame[y0:y1, x0:x1] = (220, 0, 0)
    return frame


@pytest.fixture(scope="module")
def painted(make_video, tmp_path_factory):
    return make_video(
        tmp_path_factory.mktemp("box") / "v.mp4", FPS, 60, size=(120, 200), painter=paint_box, lossless=True
    )


def red_box(frame):
    """XYXY of the red pixels of an RGB frame, at their outer edges; None if there are none."""
    y, x = np.nonzero(frame[..., 0].numpy() > 110)
    return None if len(x) == 0 else np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


@pytest.mark.parametrize("crop_type", ["vgg", "inception", "none"])
def test_boxes_follow_the_pixels(painted, crop_type):
    cfg = config(INPUT__CROP__TYPE=crop_type)
    mapper = KeyFrameMapper(cfg, is_train=True)
    proposals = {"proposal_boxes": np.float32([[0.9, 0.9, 1, 1], BOX]), "proposal_scores": np.float32([0.7, 0.9])}
    cut_off = 0
    for seed in range(30):
        sample = mapper(record_of(painted, **proposals), rng(seed))
        instances, found = sample["instances"], sample["proposals"]
        assert instances.image_size == found.image_size == tuple(sample["clip"].shape[1:3])
        seen = red_box(sample["clip"][0])
        if seen is None:
            assert len(instances) <= 1  # at most a sliver
            cut_off += 1
            continue
        np.testing.assert_allclose(instances.gt_boxes.tensor[0].numpy(), seen, atol=1.6)
        assert instances.gt_classes.tolist() == [[1.0, 0.0, 1.0]] and instances.gt_classes.dtype == torch.float32
        sure = found.proposal_boxes.tensor[found.scores > 0.8]
        np.testing.assert_array_equal(sure, instances.gt_boxes.tensor)
    assert cut_off < 10


def test_half_of_the_clips_are_mirrored(painted):
    mapper = KeyFrameMapper(config(INPUT__CROP__TYPE="none", INPUT__MIN_SIZE_TRAIN=(120, 120)), is_train=True)
    left = [mapper(record_of(painted), rng(seed))["instances"].gt_boxes.tensor[0, 0].item() for seed in range(60)]
    as_it_is, mirrored = 200 * BOX[0], 200 * (1 - BOX[2])
    assert all(min(abs(x - as_it_is), abs(x - mirrored)) < 1e-3 for x in left)
    assert 15 < sum(abs(x - mirrored) < 1e-3 for x in left) < 45


def test_boxes_outside_the_crop_are_left_out(painted):
    boxes = np.float32([[0.0, 0.0, 0.02, 1.0], BOX, [0.98, 0.0, 1.0, 1.0]])
    classes = np.eye(3, dtype=bool)
    mapper = KeyFrameMapper(config(), is_train=True)
    kept = []
    for seed in range(20):
        instances = mapper(record_of(painted, boxes=boxes, classes=classes), rng(seed))["instances"]
        boxes_kept = instances.gt_boxes.tensor
        assert (boxes_kept[:, :2] >= 0).all() and (boxes_kept[:, 2:] <= 80).all()
        assert instances.gt_boxes.nonempty().all()
        assert len(instances.gt_boxes) == len(instances.gt_classes)
        kept.append(instances.gt_classes.argmax(1).tolist())
    assert any(0 not in k for k in kept) and any(2 not in k for k in kept) and any(1 in k for k in kept)


def test_key_frame_without_boxes(painted):
    empty = {"boxes": np.zeros((0, 4), np.float32), "classes": np.zeros((0, 3), bool)}
    proposals = {"proposal_boxes": np.zeros((0, 4), np.float32), "proposal_scores": np.zeros(0, np.float32)}
    sample = KeyFrameMapper(config(), is_train=True)(record_of(painted, **empty, **proposals), rng())
    assert sample["instances"].gt_classes.shape == (0, 3) and len(sample["instances"].gt_boxes) == 0
    assert len(sample["proposals"]) == 0


def test_evaluation_takes_the_whole_frame(painted):
    mapper = KeyFrameMapper(config(), is_train=False)
    proposals = {"proposal_boxes": BOX[None], "proposal_scores": np.float32([0.9])}
    samples = [mapper(record_of(painted, **proposals), rng(seed)) for seed in range(4)]
    assert samples[0]["clip"].shape == (4, 96, 160, 3)
    assert (samples[0]["height"], samples[0]["width"]) == (120, 200)
    assert all(torch.equal(sample["clip"], samples[0]["clip"]) for sample in samples)
    np.testing.assert_allclose(samples[0]["proposals"].proposal_boxes.tensor[0], BOX * [160, 96, 160, 96], rtol=1e-6)
    np.testing.assert_allclose(red_box(samples[0]["clip"][0]), BOX * [160, 96, 160, 96], atol=1.1)


def test_the_sample_follows_from_record_and_seed(painted):
    cfg = config(INPUT__COLOR__JITTER_PROB=1.0)
    first, again, other = (KeyFrameMapper(cfg, is_train=True)(record_of(painted), rng(s)) for s in (1, 1, 2))
    assert torch.equal(first["clip"], again["clip"]) and not torch.equal(first["clip"], other["clip"])
    assert torch.equal(first["instances"].gt_boxes.tensor, again["instances"].gt_boxes.tensor)
