import json

import numpy as np
import pytest

from vdet_ssl.errors import DataError
from vdet_ssl.metrics.ava import evaluate
from vdet_ssl.structures.ava_csv import BoxTable
from vdet_ssl.structures.ground_truth import check_records, ground_truth_table, records_of_table

NAMES = {3: "walk", 1: "sit", 8: "say"}
BOX, OTHER = [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1]


def record(**changes):
    own = {"video_id": "v", "timestamp": "0902", "file_name": "v.mp4", "boxes": [BOX, OTHER], "classes": [[0], [0, 2]]}
    return {key: value for key, value in (own | changes).items() if value is not None}


def check(*records, num_classes=3):
    return check_records(records, num_classes, "mine")


def test_records_of_json_and_of_arrays_become_the_same():
    lists = json.loads(json.dumps(record(timestamp=902, frame_rate=30, more="kept")))
    (checked,) = check(lists)
    assert (checked["timestamp"], checked["timestamp_s"], checked["start_s"]) == ("902", 902.0, 0.0)
    assert (checked["frame_rate"], checked["more"]) == (30.0, "kept")
    assert checked["boxes"].dtype == np.float64 and checked["boxes"].tolist() == [BOX, OTHER]
    assert checked["classes"].tolist() == [[True, False, False], [True, False, True]]
    for classes in (checked["classes"], checked["classes"].tolist(), checked["classes"].astype(np.float32)):
        (again,) = check(record(boxes=np.array([BOX, OTHER]), classes=classes))
        np.testing.assert_array_equal(again["classes"], checked["classes"])
        np.testing.assert_array_equal(again["boxes"], checked["boxes"])
    (again,) = check(checked)
    assert again.keys() == checked.keys()
    assert lists == json.loads(json.dumps(record(timestamp=902, frame_rate=30, more="kept")))  # is left as it was


@pytest.mark.parametrize(
    ("classes", "num_classes", "expected"),
    [
        ([[0, 1, 1]], 3, [0, 1, 1]),  # 0 and 1 for each of three classes
        ([[0, 1]], 3, [1, 1, 0]),  # class indices
        ([[0, 1]], 2, [1, 1]),  # of two classes: class indices
        ([[False, True]], 2, [0, 1]),
        ([[0.0, 1.0]], 2, [0, 1]),
        ([[0]], 1, [1]),
        ([[]], 2, [0, 0]),
    ],
)
def test_classes_are_indices_or_flags(classes, num_classes, expected):
    (checked,) = check(record(boxes=[BOX], classes=classes), num_classes=num_classes)
    assert checked["classes"].tolist() == [[bool(x) for x in expected]]


def test_a_key_frame_without_boxes():
    (checked,) = check(record(boxes=[], classes=[]))
    assert checked["boxes"].shape == (0, 4) and checked["classes"].shape == (0, 3)
    table = ground_truth_table([checked], list(NAMES))
    assert table.key_frames == [("v", "0902")] and len(table) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"boxes": None, "file_name": None}, "it has no file_name, boxes; a record of a key frame has video_id, "),
        ({"timestamp": "then"}, "timestamp is not a number of seconds: 'then'"),
        ({"timestamp": float("nan")}, "timestamp is not a number of seconds"),
        ({"start_s": "0"}, "start_s is not a number: '0'"),
        ({"frame_rate": 0}, "frame_rate is 0; it has to be above 0"),
        ({"boxes": [BOX, [10, 20, 30, 40]]}, "box x1, y1, x2, y2 = 10, 20, 30, 40 is not 0 <= x1 < x2 <= 1"),
        ({"boxes": [BOX, [0.5, 0.5, 0.5, 1]]}, "0.5, 0.5, 0.5, 1 is not"),
        ({"boxes": [BOX, BOX[:3]]}, "inhomogeneous"),
        ({"boxes": BOX}, r"boxes have the shape \(4,\); it has to be \(N, 4\)"),
        ({"classes": [[0]]}, "it has classes of 1 boxes, but 2 boxes"),
        ({"classes": [[0], [3]]}, r"class index \[3\] is out of range: they go from 0 to 2"),
        ({"classes": [[0], [-1]]}, r"class index \[-1\] is out of range"),
        ({"classes": [[0], [1, 1]]}, r"class indices \[1, 1\] name a class twice"),
        ({"classes": [[0], [True, False]]}, "are not 3 times true or false"),
        ({"classes": [[0], ["walk"]]}, "are a list of class indices, or true or false for each class"),
        ({"classes": [0, 1]}, "are a list of class indices, or true or false for each class"),
    ],
)
def test_a_wrong_record_is_named(changes, reason):
    with pytest.raises(DataError, match=rf"mine: record 1, video_id 'v': .*{reason}"):
        check(record(timestamp=1), record(**changes))


def test_what_is_not_a_record_is_named():
    with pytest.raises(DataError, match="mine: record 0, video_id None: it is a str; a record is a dict with video_id"):
        check("v")


def test_a_key_frame_has_one_record():
    with pytest.raises(DataError, match="mine: record 2, video_id 'v': record 0 is of the same key frame"):
        check(record(timestamp=902), record(timestamp=903), record(timestamp="0902"))


def random_table(seed, num_rows=60):
    """Labels full of ties: boxes on a coarse grid, several rows of one box, rows that are there twice, in any order."""
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.choice(4, (num_rows, 2, 2)), axis=1)
    boxes[:, 1] += 1
    key_frames = [(video_id, f"{second:04d}") for video_id in "ab" for second in range(3)]
    key, action_id = rng.integers(0, len(key_frames), num_rows), rng.choice([3, 1, 8, 12], num_rows)
    person_id = rng.integers(0, 3, num_rows).astype(float)
    return BoxTable(key_frames, key, boxes.reshape(-1, 4) / 4, action_id, person_id)


def random_detections(table, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(table), 300)
    near = np.sort(table.boxes[rows].reshape(-1, 2, 2) + rng.choice([0, 0.125], (300, 2, 2)), axis=1).reshape(-1, 4)
    return BoxTable(table.key_frames, table.key[rows], near, rng.choice([3, 1, 8], 300), rng.random(300).round(1))


@pytest.mark.parametrize("capacity", [None, 10])
@pytest.mark.parametrize("seed", range(10))
def test_records_give_the_metric_what_the_table_does(seed, capacity):
    table = random_table(seed)
    records = records_of_table(table, list(NAMES), "gt.csv")
    again = ground_truth_table(records, list(NAMES))
    listed = table.take(np.flatnonzero(np.isin(table.action_id, list(NAMES))))
    in_order = listed.take(np.argsort(listed.key, kind="stable"))
    for name in ("key", "boxes", "action_id", "score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(in_order, name))
    detections = random_detections(table, seed)
    expected = evaluate(table, detections, NAMES, capacity)
    assert 0 < expected.mean_ap < 1
    assert evaluate(again, detections, NAMES, capacity) == expected


def test_rows_of_one_box_are_one_box_of_a_record():
    frames = [("v", "0902"), ("w", "1")]
    rows = np.array([BOX, OTHER, BOX, OTHER])
    table = BoxTable(frames, np.array([1, 0, 1, 1]), rows, np.array([8, 12, 3, 3]), np.array([0.0, 1, 0, 2]))
    first, second = records_of_table(table, list(NAMES), "gt.csv")
    assert (first["video_id"], first["timestamp"], first["timestamp_s"]) == ("v", "0902", 902.0)
    assert first["boxes"].tolist() == [OTHER] and first["classes"].tolist() == [[False, False, False]]
    assert second["boxes"].tolist() == [BOX, OTHER]
    assert second["classes"].tolist() == [[True, False, True], [True, False, False]]
    assert second["labels"].tolist() == [[0, 2], [0, 0], [1, 0]] and second["person_ids"].tolist() == [0, 0, 2]


def test_records_without_labels_give_a_row_for_each_class_of_a_box():
    table = ground_truth_table(check(record()), list(NAMES))
    assert table.key_frames == [("v", "0902")] and table.key.tolist() == [0, 0, 0]
    assert table.boxes.tolist() == [BOX, OTHER, OTHER] and table.action_id.tolist() == [3, 3, 8]
    assert table.score.tolist() == [1, 1, 1]
