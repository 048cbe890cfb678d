"""The synthetic world: what it shows, what its annotations say of it, and that nothing but poses says what people do."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "datasets"))

import prepare_synthetic
from synthetic.actions import PAIRS, POSES, draw_manner
from synthetic.shot import TEST, TRAIN, Film, Shot

from vdet_ssl.data.video.reader import open_video
from vdet_ssl.structures.ava_csv import NO_ACTION, read_boxes, read_excluded
from vdet_ssl.structures.label_map import read_label_map

FILM = Film(8, (96, 64))
SMALL = ["--pretrain-videos=2", "--knn-train-videos=1", "--knn-val-videos=1", "--train-videos=3", "--val-videos=2"]
BOX_COLUMNS = ["video_id", "timestamp", "x1", "y1", "x2", "y2", "action_id", "person_id"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    prepare_synthetic.main(["--output", str(folder), "--jobs", "1", *SMALL])
    return folder


def read_frames(path):
    with open_video(path) as video:
        return video.decode_clips([np.arange(round(video.info.duration_s * video.info.fps)) / video.info.fps], "rgb")[0]


def shot_of(action, seed, num_frames=8, domain=TRAIN):
    return Shot(np.random.default_rng(seed), domain, [action], num_frames, FILM)


def test_same_seed_gives_the_same_files_and_another_seed_others(world, tmp_path):
    script = ROOT / "datasets/prepare_synthetic.py"
    command = [sys.executable, script, "--output", tmp_path / "same", "--jobs", "2", *SMALL]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    prepare_synthetic.main(["--output", str(tmp_path / "other"), "--jobs", "1", "--seed", "1", *SMALL])
    names = sorted(str(path.relative_to(world)) for path in world.rglob("*") if path.is_file())
    assert len(names) == 9 + 3 + 2 * 4 + 2
    for name in names:
        assert (world / name).read_bytes() == (tmp_path / "same" / name).read_bytes(), name
    for name in ("train.csv", "pretrain.csv", "videos/train_00000.mp4", "videos/pretrain_00000.mp4"):
        assert (world / name).read_bytes() != (tmp_path / "other" / name).read_bytes() or name == "pretrain.csv"


def test_videos_have_the_form_asked_for(world):
    for path in (world / "videos").iterdir():
        frames = read_frames(path)
        if path.name.startswith(("train", "val")):
            assert frames.shape == (72, 64, 96, 3)
        else:
            assert frames.shape[1:] == (64, 64, 3) and 4 * 5 <= len(frames) <= 7 * 8


def test_description_names_files_that_follow_their_formats(world):
    names = read_label_map(world / "actions.pbtxt")
    assert names == {i: action.name for i, action in enumerate(POSES, 1)}
    for split, count in (("train", 3), ("val", 2)):
        description = yaml.safe_load((world / f"{split}.yaml").read_text())
        assert (world / description["videos"]).is_dir() and (world / description["label_map"]).is_file()
        boxes = read_boxes(world / description["annotations"])
        assert len({video for video, _ in boxes.key_frames}) == count
        assert set(boxes.action_id) <= set(names)
        assert (boxes.boxes >= 0).all() and (boxes.boxes <= 1).all()
        assert (boxes.boxes[:, 2:] > boxes.boxes[:, :2]).all()
        assert {timestamp for _, timestamp in boxes.key_frames} <= {f"{second:04d}" for second in range(1, 9)}
        read_excluded(world / description["excluded_timestamps"])
        proposals = read_boxes(world / f"{split}_proposals.csv")
        assert (proposals.action_id == NO_ACTION).all()


def test_lists_name_every_video_with_the_action_that_persists(world):
    for split, count in (("pretrain", 2), ("knn_train", 1), ("knn_val", 1)):
        table = pd.read_csv(world / f"{split}.csv")
        assert list(table.columns) == ["path", "label"] and len(table) == count
        assert all((world / path).is_file() for path in table.path)
        assert table.label.between(1, len(POSES)).all()


def test_key_frames_can_be_many_a_second(tmp_path):
    only = ["--pretrain-videos=0", "--knn-train-videos=0", "--knn-val-videos=0", "--train-videos=0", "--val-videos=1"]
    form = ["--seconds=6", "--shot-seconds=2", "--key-frame-rate=4", "--size=96", "--fps=24"]
    prepare_synthetic.main(["--output", str(tmp_path), "--jobs", "1", *only, *form])
    table = pd.read_csv(tmp_path / "val.csv", header=None, names=BOX_COLUMNS)
    assert set(np.diff(table.timestamp.unique())) == {0.25}
    assert read_frames(tmp_path / "videos/val_00000.mp4").shape == (144, 96, 144, 3)


def test_key_frames_near_a_cut_are_excluded():
    args = prepare_synthetic.parse_args(["--output", "-"])
    shots = [shot_of(POSES[0], seed, num_frames) for seed, num_frames in enumerate((9, 14, 49))]  # cuts at 9 and 23
    rows = prepare_synthetic.annotate("a", shots, args, np.random.default_rng(0))
    assert rows.excluded == [("a", "0001"), ("a", "0003")]


@pytest.mark.parametrize("action", POSES, ids=lambda action: action.name)
def test_boxes_surround_the_figures_tightly(action):
    """Also where a figure is cut off: at the border."""
    for seed in range(4):
        shot = shot_of(action, seed)
        for frame in range(0, 8, 3):
            for box, _ in prepare_synthetic.visible_people(shot, frame):
                x1, y1, x2, y2 = box * [96, 64, 96, 64]
                ys, xs = np.nonzero(shot.mask(0, frame) > 127)
                assert np.floor(x1) <= xs.min() <= x1 + 3 and x2 - 3 <= xs.max() + 1 <= np.ceil(x2)
                assert np.floor(y1) <= ys.min() <= y1 + 3 and y2 - 3 <= ys.max() + 1 <= np.ceil(y2)


def test_figure_is_drawn_where_its_mask_says():
    """The same shot with other clothes: the frames differ within the figure's mask alone."""
    shot, other = shot_of(POSES[2], 4), shot_of(POSES[2], 4)
    other._people[0].body.shades[:] = 255 - other._people[0].body.shades
    changed = np.abs(next(shot.frames()).astype(int) - next(other.frames())).max(-1) > 30
    assert changed.sum() > 20
    assert (shot.mask(0, 0)[changed] > 0).all()


def test_bodies_cover_the_same_area_whatever_they_do():
    area = [np.mean([(shot_of(a, s).mask(0, 4) > 127).mean() for s in range(30)]) for a in POSES]
    assert max(area) < 1.25 * min(area)


@pytest.mark.parametrize("forwards, backwards", list(zip(PAIRS[::2], PAIRS[1::2], strict=True)), ids=lambda a: a.name)
def test_a_pair_shows_the_same_poses_in_the_opposite_order(forwards, backwards):
    manner, times_s = draw_manner(np.random.default_rng(0)), (np.arange(10) + 0.5) / 10
    there, back = (action.poses(manner, times_s, 1.0)[0] for action in (forwards, backwards))
    np.testing.assert_allclose(there, back[::-1], atol=1e-9)
    assert np.abs(there[0] - there[-1]).max() > 0.8


@pytest.mark.parametrize("option", ["--fps 0", "--seconds 0", "--key-frame-rate 0", "--train-videos -1", "--size x"])
def test_a_number_that_no_world_can_have_is_refused(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        prepare_synthetic.parse_args(["--output", str(tmp_path), *option.split()])
    assert f"argument {option.split()[0]}: {option.split()[1]}: has to be" in capsys.readouterr().err


def test_temporal_world_has_the_pairs(tmp_path):
    prepare_synthetic.main(["--output", str(tmp_path), "--jobs", "1", "--temporal", *SMALL])
    assert list(read_label_map(tmp_path / "actions.pbtxt").values()) == [action.name for action in PAIRS]
    assert PAIRS[0].name == "sit down" and PAIRS[1].name == "stand up"


def test_shots_of_an_unlabelled_video_share_the_action_alone():
    shots = prepare_synthetic.unlabelled_video(np.random.default_rng(0), TRAIN, POSES[3], Film(8, (64, 64)))
    assert {action.name for shot in shots for action in shot.actions} == {"cheer"}
    firsts = [next(shot.frames()).astype(float) for shot in shots]
    assert all(np.abs(a - b).mean() > 10 for a, b in itertools.pairwise(firsts))


def test_training_and_validation_differ_in_clothes_and_patterns():
    assert not set(TRAIN.patterns) & set(TEST.patterns)
    assert set(range(*TRAIN.cloth_hues)).isdisjoint(range(*TEST.cloth_hues))


def test_noisy_proposals_miss_move_and_invent_people():
    rng, box = np.random.default_rng(0), np.array([0.4, 0.3, 0.6, 0.9])
    frames = [prepare_synthetic.noisy_proposals(rng, [box], false_rate=0.0) for _ in range(2000)]
    detected = [frame[0] for frame in frames if frame]
    assert 0.02 < 1 - len(detected) / 2000 < 0.06
    moved = np.stack([b for b, _ in detected]) - box
    np.testing.assert_allclose(moved.std(axis=0), 0.04 * np.array([0.2, 0.6, 0.2, 0.6]), rtol=0.1)
    sure = np.array([score > 0.9 for _, score in detected])
    assert 0.03 < 1 - sure.mean() < 0.09
    invented = [x for _ in range(2000) for x in prepare_synthetic.noisy_proposals(rng, [])]
    assert 0.35 < len(invented) / 2000 < 0.45
    assert np.mean([score < 0.8 for _, score in invented]) > 0.99
    assert all((b >= 0).all() and (b <= 1).all() and 0 <= score <= 1 for b, score in invented)


# What must not say what people do ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cues(tmp_path_factory):
    """Features that see no pose, and labels, of the videos of both lists: split -> ({name: (N, C)}, (N,))."""
    folder = tmp_path_factory.mktemp("cues")
    counts = ["--pretrain-videos=0", "--knn-train-videos=320", "--knn-val-videos=320"]
    prepare_synthetic.main(["--output", str(folder), *counts, "--train-videos=0", "--val-videos=0", "--seed=100"])
    tables = {split: pd.read_csv(folder / f"{split}.csv") for split in ("knn_train", "knn_val")}
    return {s: (_cues([folder / path for path in t.path]), t.label.to_numpy() - 1) for s, t in tables.items()}


def _cues(paths):
    rows = {"mean colour": [], "colour histogram": [], "duration": [], "file size": [], "place in the list": []}
    for i, path in enumerate(paths):
        frames, num_bytes = read_frames(path), path.stat().st_size
        bins = frames // 64 @ np.array([16, 4, 1])
        rows["mean colour"].append(frames.mean(axis=(0, 1, 2)))
        rows["colour histogram"].append(np.sqrt(np.bincount(bins.ravel(), minlength=64) / bins.size))
        rows["duration"].append([len(frames)])
        rows["file size"].append([np.log(num_bytes), np.log(num_bytes / len(frames))])
        rows["place in the list"].append(np.sin(2 * np.pi * i / np.arange(2, 10)))
    return {name: np.stack(values) for name, values in rows.items()}


def probe_accuracy(train, train_labels, test, test_labels):
    """Fraction of the test that a linear classifier gets right."""
    mean, std = train.mean(0), train.std(0) + 1e-6
    x, y = torch.tensor((train - mean) / std, dtype=torch.float32), torch.tensor(train_labels)
    weight, bias = torch.zeros(x.shape[1], len(POSES), requires_grad=True), torch.zeros(len(POSES), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ weight + bias, y) + 0.01 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    scores = torch.tensor((test - mean) / std, dtype=torch.float32) @ weight + bias
    return (scores.argmax(1).numpy() == test_labels).mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean colour", "colour histogram", "duration", "file size", "place in the list"])
def test_no_other_cue_says_what_people_do(cues, name):
    """Chance is 1/8; of 320 videos, its standard deviation is 1.8 %."""
    (train, train_labels), (test, test_labels) = cues["knn_train"], cues["knn_val"]
    shuffled = np.random.default_rng(0).permutation(train_labels)
    assert probe_accuracy(train[name], train_labels, test[name], test_labels) < 0.125 + 4 * 0.0185
    assert probe_accuracy(train[name], shuffled, test[name], test_labels) < 0.125 + 4 * 0.0185
