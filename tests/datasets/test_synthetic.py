"""The synthetic world: what it shows, what its annotations say of it, and that both follow from the seed."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "datasets"))

import prepare_synthetic
from synthetic.actions import ACTIONS, BODY_ACTIONS, GESTURES, Segment, draw_manner, poses
from synthetic.annotations import noisy_proposals
from synthetic.figure import draw_look
from synthetic.shot import Actor, Shot, draw_camera, draw_light
from synthetic.world import SETTINGS, key_frame_labels, plan_labelled, plan_unlabelled

from vdet_ssl.structures.ava_csv import NO_ACTION, key_frame_id, read_boxes, read_excluded
from vdet_ssl.structures.label_map import read_label_map

FORM = {"seconds": 4.0, "frame_rate": 10, "size": (96, 72)}
BOX_COLUMNS = ["video_id", "timestamp", "x1", "y1", "x2", "y2", "action_id", "last"]


SMALL = ["--train-videos=3", "--val-videos=2", "--unlabelled-videos=2", "--knn-videos=1"]
SMALL += ["--seconds=4", "--fps=10", "--size=96x72"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    prepare_synthetic.main(["--output", str(folder), "--jobs", "1", *SMALL])
    return folder


def read_frames(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def one_person_shot(body="stand", gesture=None, seconds=2.0, seed=0):
    rng = np.random.default_rng(seed)
    actor = Actor(
        look=draw_look(rng),
        manner=draw_manner(rng),
        script=[Segment(0, seconds, body, gesture)],
        place=0.5,
        heading=0.5,
        scale=0.36,
        stool=None,
    )
    camera, light = draw_camera(rng), draw_light(rng)
    form = {"num_frames": round(seconds * 10), "frame_rate": 10, "size": (96, 72)}
    return Shot([actor], camera, light, setting="places", seed=seed, **form)


def test_same_seed_gives_the_same_files_and_another_seed_others(world, tmp_path):
    script = ROOT / "datasets/prepare_synthetic.py"
    command = [sys.executable, script, "--output", tmp_path / "same", "--jobs", "2", *SMALL]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    prepare_synthetic.main(["--output", str(tmp_path / "other"), "--jobs", "1", "--seed", "1", *SMALL])
    names = sorted(str(path.relative_to(world)) for path in world.rglob("*") if path.is_file())
    assert len(names) == 8 + 2 * 4 + 2 + 2
    for name in names:
        assert (world / name).read_bytes() == (tmp_path / "same" / name).read_bytes(), name
    assert (world / "train.csv").read_bytes() != (tmp_path / "other/train.csv").read_bytes()
    frames, others = (read_frames(folder / "videos/train_00000.mp4") for folder in (world, tmp_path / "other"))
    assert not np.array_equal(frames[0], others[0])


def test_videos_hold_the_frames_asked_for(world):
    for path in (world / "videos").iterdir():
        frames = read_frames(path)
        assert len(frames) == 40
        assert frames[0].shape == (72, 96, 3)


def test_description_names_files_that_follow_their_formats(world):
    names = read_label_map(world / "actions.pbtxt")
    assert names == {i + 1: name for i, name in enumerate(ACTIONS)}
    for split, count in (("train", 3), ("val", 2)):
        description = yaml.safe_load((world / f"{split}.yaml").read_text())
        assert (world / description["videos"]).is_dir() and (world / description["label_map"]).is_file()
        boxes = read_boxes(world / description["annotations"])
        assert len({video for video, _ in boxes.key_frames}) == count
        assert set(boxes.action_id) <= set(names)
        assert (boxes.boxes >= 0).all() and (boxes.boxes <= 1).all()
        assert (boxes.boxes[:, 2:] > boxes.boxes[:, :2]).all()
        assert all(timestamp in ("0001", "0002", "0003") for _, timestamp in boxes.key_frames)
        read_excluded(world / description["excluded_timestamps"])


def test_each_person_has_one_body_action_and_at_most_one_gesture(world):
    table = pd.read_csv(world / "train.csv", header=None, names=BOX_COLUMNS)
    names = table.action_id.map(lambda action_id: ACTIONS[action_id - 1])
    people = names.groupby([table.video_id, table.timestamp, table["last"]])
    assert (people.agg(lambda x: sum(name in BODY_ACTIONS for name in x)) == 1).all()
    assert (people.agg(lambda x: sum(name in GESTURES for name in x)) <= 1).all()


def test_video_lists_name_every_video_with_the_action_that_persists(world):
    for split, count in (("pretrain", 2), ("knn_val", 1)):
        table = pd.read_csv(world / f"{split}.csv")
        assert list(table.columns) == ["path", "label"]
        assert all((world / path).is_file() for path in table.path)
        assert table.label.tolist() == list(range(1, count + 1))


def test_boxes_surround_the_figures_tightly():
    for body, seed in (("walk", 0), ("jump", 1), ("sit", 2), ("stand", 3)):
        shot = one_person_shot(body, seed=seed)
        for frame in range(0, len(shot), 7):
            rows, _ = key_frame_labels(shot, frame)
            x1, y1, x2, y2 = rows[0][0] * [96, 72, 96, 72]
            ys, xs = np.nonzero(shot.mask(0, frame) > 127)
            assert np.floor(x1) <= xs.min() <= x1 + 2 and x2 - 2 <= xs.max() + 1 <= np.ceil(x2)
            assert np.floor(y1) <= ys.min() <= y1 + 2 and y2 - 2 <= ys.max() + 1 <= np.ceil(y2)


def test_figure_is_drawn_where_its_mask_says():
    """Two people in the same place before the same camera: the pictures differ within their masks alone."""
    shot, other = one_person_shot(seed=4), one_person_shot(seed=4)
    other.actors[0].look.colors["top"][:] = 255 - other.actors[0].look.colors["top"]
    changed = np.abs(next(shot.frames()).astype(int) - next(other.frames())).max(-1) > 30
    assert changed.sum() > 20
    assert (shot.mask(0, 0)[changed] > 0).all()


def test_wave_and_raised_hand_share_every_pose_of_one_frame():
    manner, times_s = draw_manner(np.random.default_rng(0)), np.arange(0, 3, 0.01)
    waving = poses([Segment(0, 3, "stand", "wave")], manner, times_s)[0]
    raised = poses([Segment(0, 3, "stand", "raise hand")], manner, times_s)[0]
    arms = slice(2, 6)
    assert np.abs(np.diff(raised[:, arms], axis=0)).max() < 1e-3 < np.abs(np.diff(waving[:, arms], axis=0)).max()
    assert np.abs(waving[:, arms] - raised[:1, arms]).max(axis=(1, 2)).min() < 0.05


def test_standing_up_is_sitting_down_backwards():
    manner = draw_manner(np.random.default_rng(0))
    down = poses([Segment(0, 1, "sit down")], manner, np.linspace(0, 1, 50))[0]
    up = poses([Segment(0, 1, "stand up")], manner, np.linspace(1, 0, 50))[0]
    assert np.abs(down - up).max() < 0.06  # but for the breath
    assert np.abs(down[0] - down[-1]).max() > 0.8


def test_poses_are_unit_vectors_that_move_smoothly_from_act_to_act():
    rng = np.random.default_rng(0)
    script = [
        Segment(0, 1, "stand", "wave"),
        Segment(1, 2, "walk"),
        Segment(2, 3, "jump"),
        Segment(3, 4, "stand", "clap"),
    ]
    bones, lift_m, walking = poses(script, draw_manner(rng), np.arange(0, 4, 0.01))
    np.testing.assert_allclose(np.linalg.norm(bones, axis=-1), 1)
    assert np.abs(np.diff(bones, axis=0)).max() < 0.5
    assert lift_m[(np.arange(400) > 230) & (np.arange(400) < 290)].max() > 0.1
    assert lift_m[:180].max() == 0 and walking[150] == 1 and walking[50] == 0


def test_unlabelled_video_shows_one_action_in_all_its_shots():
    for i, action in enumerate(ACTIONS):
        plan = plan_unlabelled(np.random.default_rng(i), SETTINGS["places"], action, **FORM)
        assert sum(len(shot) for shot in plan.shots) == 40
        for shot in plan.shots:
            for actor in shot.actors:
                assert any(action in segment.labels for segment in actor.script)


def test_key_frames_in_transition_are_not_clear():
    rng, unclear = np.random.default_rng(0), 0
    for _ in range(20):
        shot = plan_labelled(rng, SETTINGS["places"], **FORM).shots[0]
        borders = [s.start_s for actor in shot.actors for s in actor.script[1:]]
        for frame in range(len(shot)):
            near = min((abs(shot.times_s[frame] - b) for b in borders), default=9)
            clear = key_frame_labels(shot, frame)[1]
            assert clear == (near >= 0.225)
            unclear += not clear
    assert unclear > 0


def test_noisy_proposals_miss_move_and_invent_people():
    rng, box = np.random.default_rng(0), np.array([0.4, 0.3, 0.6, 0.9])
    frames = [noisy_proposals(rng, [box], false_rate=0.0) for _ in range(2000)]
    found = [frame[0] for frame in frames if frame]
    assert 0.02 < 1 - len(found) / 2000 < 0.06
    moved = np.stack([b for b, _ in found]) - box
    np.testing.assert_allclose(moved.std(axis=0), 0.04 * np.array([0.2, 0.6, 0.2, 0.6]), rtol=0.1)
    sure = np.array([score > 0.9 for _, score in found])
    assert 0.03 < 1 - sure.mean() < 0.09
    invented = [x for _ in range(2000) for x in noisy_proposals(rng, [])]
    assert 0.35 < len(invented) / 2000 < 0.45
    assert np.mean([score < 0.8 for _, score in invented]) > 0.99
    assert all((b >= 0).all() and (b <= 1).all() and 0 <= score <= 1 for b, score in invented)


def test_proposals_follow_the_format_of_predicted_boxes(world):
    proposals = read_boxes(world / "train_proposals.csv")
    assert (proposals.action_id == NO_ACTION).all()
    assert (proposals.boxes >= 0).all() and (proposals.boxes <= 1).all()
    truth = read_boxes(world / "train.csv")
    both = {key_frame_id(*k) for k in truth.key_frames} & {key_frame_id(*k) for k in proposals.key_frames}
    assert len(both) >= 0.8 * len(truth.key_frames)
