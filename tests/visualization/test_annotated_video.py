"""Annotated videos: boxes, names and times land where they belong."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from vdet_ssl.errors import VideoError
from vdet_ssl.structures.ava_csv import read_boxes
from vdet_ssl.visualization.annotated_video import (
    KeyFrame,
    annotate,
    boxes_at,
    key_frames_of_table,
    without_scores,
    write_annotated_video,
)

ROOT = Path(__file__).resolve().parents[2]
NAMES = {1: "stand", 2: "walk", 7: "wave"}
BOX = (0.25, 0.25, 0.5, 0.75)


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture
def gray_video(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 128, np.uint8), "rgb24")))
        container.mux(stream.encode())
    return path


def key_frame(timestamp_s, *boxes, name="walk", score=0.9):
    return KeyFrame(timestamp_s, np.array(boxes, dtype=float).reshape(-1, 4), [[(name, score)] for _ in boxes])


def test_rows_of_a_result_file_become_boxes_with_their_best_actions(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(
        "a,0002,0.1,0.1,0.3,0.9,1,0.2\na,0002,0.1,0.1,0.3,0.9,7,0.8\na,0002,0.1,0.1,0.3,0.9,2,0.5\n"
        "a,0002,0.5,0.1,0.7,0.9,2,0.05\nb,0001,0.5,0.1,0.7,0.9,2,0.9\na,0001,0.5,0.1,0.7,0.9,44,0.9\n"
    )
    first, second = key_frames_of_table(read_boxes(path), NAMES, "a", top_k=2, min_score=0.1)
    assert (first.timestamp_s, second.timestamp_s) == (1.0, 2.0)
    assert first.actions == [[]]
    assert second.actions == [[("wave", 0.8), ("walk", 0.5)], []]
    np.testing.assert_allclose(second.boxes, [[0.1, 0.1, 0.3, 0.9], [0.5, 0.1, 0.7, 0.9]])
    assert without_scores([second])[0].actions == [[("wave", None), ("walk", None)], []]


def test_boxes_move_from_key_frame_to_key_frame_and_none_is_shown_far_from_both():
    left, right, elsewhere = (0.1, 0.2, 0.2, 0.8), (0.3, 0.2, 0.4, 0.8), (0.8, 0.2, 0.9, 0.8)
    frames = [key_frame(1.0, left, elsewhere, name="walk"), key_frame(2.0, elsewhere, right, name="stand")]
    np.testing.assert_allclose(boxes_at(frames, 1.25).boxes, [(0.15, 0.2, 0.25, 0.8), elsewhere])
    np.testing.assert_allclose(boxes_at(frames, 1.75).boxes, [elsewhere, (0.25, 0.2, 0.35, 0.8)])
    assert boxes_at(frames, 1.25).actions[0][0][0] == "walk" and boxes_at(frames, 1.75).actions[0][0][0] == "stand"
    np.testing.assert_allclose(boxes_at(frames, 0.7).boxes, [left, elsewhere])
    assert len(boxes_at(frames, 0.3).boxes) == len(boxes_at(frames, 2.6).boxes) == len(boxes_at([], 1.0).boxes) == 0


def test_true_positives_are_green_and_false_ones_red():
    def drawn(name, ground_truth):
        image = np.full((400, 600, 3), 128, np.uint8)
        annotate(image, key_frame(1.0, BOX, name=name), ground_truth)
        labels = image[60:97, 150:260].reshape(-1, 3).astype(int)  # just above the box
        return {"green": (labels == (40, 160, 70)).all(1).any(), "red": (labels == (205, 60, 50)).all(1).any()}

    nothing, ground_truth = KeyFrame(1.0), without_scores([key_frame(1.0, BOX)])[0]
    assert drawn("walk", ground_truth) == {"green": True, "red": False}
    assert drawn("wave", ground_truth) == {"green": False, "red": True}
    assert drawn("walk", nothing) == {"green": False, "red": False}


def test_boxes_appear_at_their_time_and_place_alone(gray_video, tmp_path):
    output = tmp_path / "annotated.mp4"
    write_annotated_video(gray_video, output, [key_frame(0.5, BOX)])
    frames = frames_of(output)
    assert len(frames) == 20 and frames[0].shape == (480, 720, 3)
    with_box, without = frames[5].astype(int), frames[15].astype(int)
    changed = np.abs(with_box - without).max(-1) > 60
    changed[-40:, -120:] = False  # the time in the corner
    ys, xs = np.nonzero(changed)
    assert abs(xs.min() - 180) <= 3 and abs(xs.max() - 360) <= 3 and abs(ys.max() - 360) <= 3
    assert not changed[130:350, 190:350].any()


def test_a_video_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match="broken.mp4"):
        write_annotated_video(tmp_path / "broken.mp4", tmp_path / "out.mp4", [])


def test_tool_draws_a_result_file(gray_video, tmp_path):
    (tmp_path / "results.csv").write_text("clip,1,0.25,0.25,0.5,0.75,7,0.9\n")
    (tmp_path / "actions.pbtxt").write_text('item { name: "wave" id: 7 }\n')
    command = [sys.executable, ROOT / "tools/visualize_detections.py", "--detections", tmp_path / "results.csv"]
    command += ["--label-map", tmp_path / "actions.pbtxt", "--output", tmp_path / "drawn"]
    options = {"capture_output": True, "text": True}
    run = subprocess.run([*map(str, command), str(gray_video)], check=False, **options)
    assert run.returncode == 0, run.stderr
    assert "1 key frames" in run.stdout
    assert len(frames_of(tmp_path / "drawn/clip_annotated.mp4")) == 20
    other = gray_video.rename(tmp_path / "other.mp4")
    run = subprocess.run([*map(str, command), str(other)], check=False, **options)
    assert run.returncode != 0 and "nothing about the video 'other'; it names clip" in run.stderr


@pytest.mark.parametrize("tool", ["detect_actions", "visualize_detections"])
@pytest.mark.parametrize("top_k", ["0", "-1"])
def test_fewer_than_one_action_of_a_person_is_refused(tool, top_k):
    words = [sys.executable, f"tools/{tool}.py", "--top-k", top_k]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"argument --top-k: it is {top_k}; it has to be" in done.stderr


def test_the_clock_covers_no_action_of_a_whole_frame_box(gray_video, tmp_path):
    output = tmp_path / "out.mp4"
    write_annotated_video(gray_video, output, [key_frame(0.5, (0, 0, 1, 1))])
    frame = frames_of(output)[5].astype(int)
    row = round(0.036 * len(frame))
    assert (frame[-row + 3 : -4, -20:-10].mean((0, 1)) < 100).all()  # the clock, bottom right
    assert frame[4 : row - 4, 2:4].mean((0, 1))[0] > 200  # the action's own colour, top left
