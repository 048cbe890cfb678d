import gzip
import heapq
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vdet_ssl.errors import DataError
from vdet_ssl.metrics.ava import average_precision, evaluate, evaluate_files, evaluate_parts
from vdet_ssl.structures.ava_csv import BoxTable, key_frame_id, read_boxes, write_boxes
from vdet_ssl.structures.label_map import read_label_map

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "../shared/ava"
NAMES = {2: "walk", 3: "sit (down)", 7: "say, loudly", 9: "never seen"}


def table_of(rows):
    """Rows of (video id, timestamp, (x1, y1, x2, y2), action id, score) -> BoxTable."""
    frames = list(dict.fromkeys((row[0], row[1]) for row in rows))
    return BoxTable(
        frames,
        np.array([frames.index((row[0], row[1])) for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[3] for row in rows], np.int64),
        np.array([row[4] for row in rows], np.float64),
    )


def official_rows(table, names, capacity):
    """{key frame: [(action, box, score)] in the order that a heap of the best `capacity` gives}, row by row."""
    heaps = {}
    for i in range(len(table)):
        action, (x1, y1, x2, y2) = int(table.action_id[i]), table.boxes[i].tolist()
        if action not in names:
            continue
        heap = heaps.setdefault(key_frame_id(*table.key_frames[table.key[i]]), [])
        entry = (float(table.score[i]), action, y1, x1, y2, x2)
        if not capacity or len(heap) < capacity:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    return {
        frame: [(a, (x1, y1, x2, y2), s) for s, a, y1, x1, y2, x2 in sorted(heap, key=lambda e: -e[0])]
        for frame, heap in heaps.items()
    }


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    union = (a[3] - a[1]) * (a[2] - a[0]) + (b[3] - b[1]) * (b[2] - b[0]) - max(h, 0) * max(w, 0)
    return common / union


def naive_ap(truth, found, names, capacity, excluded):
    """The metric by its definition, one detection after the other."""
    listed = {key_frame_id(*frame) for frame in truth.key_frames} - excluded
    truth_rows, found_rows = official_rows(truth, names, 0), official_rows(found, names, capacity)
    ap = {}
    for action, name in names.items():
        boxes = {k: [b for a, b, _ in rows if a == action] for k, rows in truth_rows.items() if k in listed}
        num_truth = sum(map(len, boxes.values()))
        scores, right = [], []
        for frame, rows in found_rows.items():
            taken = set()
            for a, box, score in rows:
                if a != action or frame not in listed or not (box[0] < box[2] and box[1] < box[3]):
                    continue
                overlaps = [iou(box, other) for other in boxes.get(frame, [])]
                best = int(np.argmax(overlaps)) if overlaps else -1
                hit = best >= 0 and overlaps[best] >= 0.5 and best not in taken
                taken |= {best} if hit else set()
                scores.append(score)
                right.append(hit)
        ap[name] = naive_area(scores, right, num_truth) if num_truth else None
    return ap


def naive_area(scores, right, num_truth):
    area, precision = 0.0, []
    order = np.argsort(np.array(scores, float), kind="stable")[::-1]
    hits = [right[i] for i in order]
    for i in range(len(hits)):
        precision.append(sum(hits[: i + 1]) / (i + 1))
    for i, hit in enumerate(hits):
        area += hit / num_truth * max(precision[i:])
    return area


def random_tables(seed):
    """Ground truth and detections full of ties: few scores, boxes on a coarse grid, rows in any order."""
    rng = np.random.default_rng(seed)
    grid, decimals = rng.integers(3, 9), rng.integers(1, 3)

    def rows(number, share_valid, scores):
        corners = rng.integers(0, grid + 1, (number, 2, 2)) / grid
        boxes = np.where(rng.random((number, 1, 1)) < share_valid, np.sort(corners, axis=1), corners).reshape(-1, 4)
        columns = rng.choice(4, number), rng.choice(5, number), boxes, rng.choice([2, 3, 7, 12], number), scores
        return [(f"v{v}", f"{t:04d}", box, action, score) for v, t, box, action, score in zip(*columns, strict=True)]

    num_truth, num_found = rng.integers(5, 60), rng.integers(30, 400)
    people = rng.integers(0, 2, num_truth)
    return (
        table_of(rows(num_truth, 1.0, people)),
        table_of(rows(num_found, 0.9, rng.beta(0.5, 2, num_found).round(decimals))),
    )


@pytest.mark.parametrize("capacity", [None, 1, 3, 20])
@pytest.mark.parametrize("seed", range(8))
def test_equal_to_a_naive_loop_with_ties_everywhere(seed, capacity):
    truth, found = random_tables(seed)
    excluded = {("v0", 0), ("v1", 1000000)} if seed % 2 else set()
    result = evaluate(truth, found, NAMES, capacity, excluded)
    expected = naive_ap(truth, found, NAMES, capacity, excluded)
    assert result.ap.keys() == expected.keys()
    assert result.ap["never seen"] is None
    for name, ap in expected.items():
        assert result.ap[name] == pytest.approx(ap, abs=1e-12)
    assert result.mean_ap == pytest.approx(np.mean([x for x in expected.values() if x is not None]), abs=1e-12)


@pytest.mark.skipif(not SHARED.exists(), reason="no ../shared/ava")
@pytest.mark.parametrize("capacity", [0, 50])
def test_equal_to_the_official_evaluator(capacity):
    """To the last digit, but for the one class where a true and a false positive have the same score: its official figure
    hangs on the CPU that it was computed on."""
    files = [SHARED / "official_eval" / name for name in ("gt.csv", "det.csv.gz")]
    official = json.loads((SHARED / f"official_eval/official_capacity_{capacity}.json").read_text())
    result = evaluate_files(*map(str, files), SHARED / "ava_action_list_60_classes.pbtxt", capacity)
    mean_ap = official.pop("mAP")
    assert result.mean_ap == pytest.approx(mean_ap, abs=1e-5)
    assert result.mean_ap_range[0] <= mean_ap <= result.mean_ap_range[1]
    assert {f"AP/{name}" for name in result.ap} == set(official)
    differ = [name for name, ap in result.ap.items() if ap is not None and ap != official[f"AP/{name}"]]
    assert differ in ([], ["fall down"])


REFERENCE = ROOT / "../shared/reference"


def reference_figures():
    """Pairs of set and way of evaluating whose figures are recorded with a stable sort."""
    path = REFERENCE / "ava_eval.npz"
    names = np.load(path).files if path.exists() else []
    ways = (name.split("/")[:2] for name in names if name.endswith("_stable/map"))
    return [(data, way) for data, way in ways if way.startswith(("official", "pyslowfast"))]


@pytest.mark.parametrize("data, way", reference_figures())
def test_equal_to_the_reference_evaluators_with_a_stable_sort(data, way):
    folder, recorded = REFERENCE / "ava" / data, np.load(REFERENCE / "ava_eval.npz")
    result = evaluate_files(
        folder / "gt.csv",
        folder / "det.csv",
        REFERENCE / "ava/ava_action_list_60_classes.pbtxt",
        0 if way.startswith("pyslowfast") else int(way.split("_")[2]),
        folder / "excl.csv" if "excluded" in way else None,
        as_pyslowfast=way.startswith("pyslowfast"),
    )
    ap = np.array([np.nan if x is None else x for x in result.ap.values()])
    np.testing.assert_array_equal(ap, recorded[f"{data}/{way}/ap"])
    assert result.mean_ap == recorded[f"{data}/{way}/map"]


BOX, NEAR, FAR = (0.1, 0.1, 0.5, 0.5), (0.1, 0.1, 0.5, 0.45), (0.6, 0.6, 0.9, 0.9)


def test_ground_truth_as_detections_is_perfect():
    truth, _ = random_tables(0)
    inside = (truth.boxes[:, 0] < truth.boxes[:, 2]) & (truth.boxes[:, 1] < truth.boxes[:, 3])
    truth = truth.take(inside)
    _, once = np.unique(np.column_stack([truth.key, truth.boxes, truth.action_id]), axis=0, return_index=True)
    truth = truth.take(np.sort(once))
    result = evaluate(truth, truth, NAMES)
    assert result.mean_ap == 1.0
    assert set(result.ap.values()) == {1.0, None}


def test_second_detection_of_a_box_is_wrong_and_so_is_one_that_prefers_a_taken_box():
    truth = table_of([("v", "1", BOX, 2, 1.0), ("v", "1", FAR, 2, 1.0)])
    found = table_of([("v", "1", NEAR, 2, 0.9), ("v", "1", BOX, 2, 0.8), ("v", "1", FAR, 2, 0.7)])
    # right, wrong, right: precision 1 at recall 1/2, 2/3 at recall 1
    assert evaluate(truth, found, {2: "walk"}).mean_ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_detections_where_the_ground_truth_names_no_key_frame_do_not_count():
    truth = table_of([("v", "0001", BOX, 2, 1.0), ("v", "0002", BOX, 12, 1.0)])
    found = table_of([("v", "3", BOX, 2, 0.9), ("v", "1.0", BOX, 2, 0.8)])
    assert evaluate(truth, found, {2: "walk"}).mean_ap == 1.0
    # 0002 has an action that is not listed, but is a key frame: a detection there is wrong.
    found = table_of([("v", "2", BOX, 2, 0.9), ("v", "1.0", BOX, 2, 0.8)])
    assert evaluate(truth, found, {2: "walk"}).mean_ap == 0.5
    assert evaluate(truth, found, {2: "walk"}, excluded={("v", 2000000)}).mean_ap == 1.0


def test_capacity_counts_boxes_and_classes_of_a_key_frame():
    truth = table_of([("v", "1", BOX, 2, 1.0), ("w", "1", BOX, 3, 1.0)])
    found = table_of(
        [("v", "1", BOX, 3, 0.9), ("v", "1", FAR, 3, 0.8), ("v", "1", BOX, 2, 0.7), ("w", "1", BOX, 3, 0.1)]
    )
    names = {2: "walk", 3: "sit"}
    assert evaluate(truth, found, names, 2).ap == {"walk": 0.0, "sit": pytest.approx(1 / 3)}
    assert evaluate(truth, found, names, 0).ap == {"walk": 1.0, "sit": pytest.approx(1 / 3)}
    assert (evaluate(truth, found, names, 2).capacity, evaluate(truth, found, names, 0).capacity) == (2, None)


def test_capacity_drops_the_smaller_action_id_of_equal_scores():
    truth = table_of([("v", "1", BOX, 2, 1.0), ("v", "1", BOX, 3, 1.0)])
    found = table_of([("v", "1", BOX, 2, 0.5), ("v", "1", BOX, 3, 0.5), ("v", "1", FAR, 7, 0.9)])
    assert evaluate(truth, found, NAMES, 2).ap["walk"] == 0.0  # pushed out of the heap by the last row
    assert evaluate(truth, found, NAMES, 2).ap["sit (down)"] == 1.0


def test_rows_that_are_equal_are_kept_as_if_nothing_told_them_apart():
    rng = np.random.default_rng(0)
    truth, _ = random_tables(1)
    for _ in range(40):
        pool = [("v0", "0", tuple(box), 2, 0.5) for box in truth.boxes[:3]] + [
            ("v0", "0", BOX, 3, s) for s in (0.4, 0.6)
        ]
        found = table_of([pool[i] for i in rng.integers(0, len(pool), 30)])
        gt = table_of([(*row[:4], 0.0) for row in pool])
        assert evaluate(gt, found, NAMES, 7).ap == pytest.approx(naive_ap(gt, found, NAMES, 7, set()), abs=1e-12)


def test_pyslowfast_matches_in_the_order_of_the_file():
    truth = table_of([("v", "1", BOX, 2, 0.0)])
    found = table_of([("v", "1", NEAR, 2, 0.3), ("v", "1", BOX, 2, 0.9)])
    assert evaluate(truth, found, {2: "walk"}).mean_ap == 1.0
    assert evaluate(truth, found, {2: "walk"}, as_pyslowfast=True).mean_ap == 0.5


def test_pyslowfast_counts_detections_in_key_frames_without_ground_truth():
    truth = table_of([("v", "1", BOX, 2, 0.0)])
    found = table_of([("v", "1", BOX, 2, 0.5), ("v", "2", BOX, 2, 0.9), ("v", "3", BOX, 2, 0.9)])
    assert evaluate(truth, found, {2: "walk"}).mean_ap == 1.0
    assert evaluate(truth, found, {2: "walk"}, as_pyslowfast=True).mean_ap == pytest.approx(1 / 3)
    excluded = {("v", 2000000)}
    assert evaluate(truth, found, {2: "walk"}, excluded=excluded, as_pyslowfast=True).mean_ap == 0.5


def test_what_ties_can_do_is_said(caplog):
    truth = table_of([("v", "1", BOX, 2, 0.0)])
    rows = [("v", "1", BOX, 2, 0.5), ("v", "1", FAR, 2, 0.5), ("v", "1", FAR, 2, 0.5)]
    result = evaluate(truth, table_of(rows), {2: "walk"})
    assert result.mean_ap_range == (pytest.approx(1 / 3), 1.0)
    assert "mAP is from 0.333333 to 1.000000" in caplog.text
    caplog.clear()
    untied = table_of([(*row[:4], row[4] + 0.1 * i) for i, row in enumerate(rows)])
    assert evaluate(truth, untied, {2: "walk"}).mean_ap_range == 2 * (pytest.approx(1 / 3),)
    assert not caplog.text


def test_detections_that_come_in_parts():
    truth, found = random_tables(5)
    parts = [found.take(found.key % 3 == i) for i in range(3)]
    parts = [
        BoxTable(
            [part.key_frames[k] for k in np.unique(part.key)],
            np.unique(part.key, return_inverse=True)[1],
            part.boxes,
            part.action_id,
            part.score,
        )
        for part in parts
    ]
    whole, in_parts = evaluate(truth, found, NAMES, 3), evaluate_parts(truth, iter(parts), NAMES, 3)
    assert in_parts.mean_ap_range == pytest.approx(whole.mean_ap_range, abs=1e-12)
    with pytest.raises(DataError, match="key frame twice"):
        evaluate_parts(truth, [parts[0], parts[0]], NAMES, 3)


def test_of_two_boxes_that_are_overlapped_equally_the_first_in_the_heap_is_taken():
    high, low, between = (0.0, 0.0, 1.0, 0.5), (0.0, 0.25, 1.0, 0.75), (0.0, 0.125, 1.0, 0.625)
    truth = table_of([("v", "1", low, 2, 1.0), ("v", "1", high, 2, 1.0)])
    found = table_of([("v", "1", between, 2, 0.9), ("v", "1", high, 2, 0.8)])
    assert evaluate(truth, found, {2: "walk"}).mean_ap == 0.5  # `between` takes `high`, though `low` comes first


def test_scores_that_differ_in_their_last_digit():
    rng = np.random.default_rng(0)
    rows = [("v", "1", BOX, 2, 0.5)] + [("v", str(t), FAR, 2, 0.5) for t in range(2, 40)]
    truth = table_of(rows)
    found = table_of(
        [(v, t, box, a, 0.5 + 1e-16 * rng.integers(8)) for v, t, box, a, _ in rows * 3] + [("v", "9", BOX, 2, 1e9)]
    )
    result = evaluate(truth, found, {2: "walk"}, 2)
    assert result.ap == {"walk": pytest.approx(naive_ap(truth, found, {2: "walk"}, 2, set())["walk"], abs=1e-12)}


def test_average_precision_without_detections():
    assert average_precision(np.zeros(0), np.zeros(0, bool), 3) == 0.0


def test_no_detections_at_all_is_zero_with_a_warning(caplog):
    truth = table_of([("v", "1", BOX, 2, 1.0)])
    with caplog.at_level(logging.WARNING):
        assert evaluate(truth, table_of([]), NAMES).ap == {"walk": 0.0, **dict.fromkeys(list(NAMES.values())[1:])}
    assert "no detections at all" in caplog.text


@pytest.mark.parametrize(
    "found, reason",
    [
        (("w", "1", BOX, 2, 0.5), r"other.* key frames like \['w,1'\].*ground truth has key frames like \['v,0001'\]"),
        (("v", "1", BOX, 5, 0.5), r"action ids like \[5\].*action ids like \[2\]"),
        (("v", "1", (12.0, 20.0, 120.0, 200.0), 2, 0.5), "in pixels .*12, 20, 120, 200"),
    ],
)
def test_a_zero_that_means_nothing_is_an_error(found, reason):
    truth = table_of([("v", "0001", BOX, 2, 1.0)])
    with pytest.raises(ValueError, match=reason):
        evaluate(truth, table_of([found]), NAMES)


def test_ground_truth_in_pixels_is_an_error():
    truth = table_of([("v", "1", (12.0, 20.0, 120.0, 200.0), 2, 0.0)])
    with pytest.raises(DataError, match="boxes of the ground truth are in pixels .*12, 20, 120, 200"):
        evaluate(truth, table_of([("v", "1", BOX, 2, 0.5)]), NAMES)


def test_key_frame_that_is_named_twice_is_an_error():
    truth = table_of([("v", "0001", BOX, 2, 1.0)])
    with pytest.raises(ValueError, match="key frame twice"):
        evaluate(truth, table_of([("v", "1", BOX, 2, 1.0), ("v", "01", BOX, 2, 1.0)]), NAMES)


def test_nothing_to_evaluate_is_an_error():
    truth = table_of([("v", "0001", BOX, 5, 1.0)])
    with pytest.raises(ValueError, match=r"Nothing in the ground truth .*\[5\]"):
        evaluate(truth, truth, NAMES)


@pytest.fixture
def files(tmp_path):
    truth, found = random_tables(3)
    write_boxes(str(tmp_path / "gt.csv"), truth)
    write_boxes(str(tmp_path / "det.csv"), found)
    (tmp_path / "det.csv.gz").write_bytes(gzip.compress((tmp_path / "det.csv").read_bytes()))
    items = (f'item {{\n  name: "{name}"\n  id: {i}\n}}\n' for i, name in NAMES.items())
    (tmp_path / "list.pbtxt").write_text("".join(items))
    (tmp_path / "excluded.csv").write_text("v0,0001\n")
    return tmp_path


def run_tool(folder, *arguments):
    command = [sys.executable, ROOT / "tools/evaluate_ava.py", "--ground-truth", "gt.csv", "--label-map", "list.pbtxt"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [*command, *arguments], check=False, cwd=folder, env=environment, capture_output=True, text=True
    )


def test_tool(files):
    arguments = ["--detections", "det.csv.gz", "--capacity", "5", "--excluded", "excluded.csv", "--output", "out.json"]
    done = run_tool(files, *arguments)
    assert done.returncode == 0, done.stderr
    truth, found = read_boxes(files / "gt.csv"), read_boxes(files / "det.csv")
    expected = evaluate(truth, found, read_label_map(files / "list.pbtxt"), 5, {("v0", 1000000)})
    written = json.loads((files / "out.json").read_text())
    assert written == {"mAP": expected.mean_ap, "capacity": 5, "AP": expected.ap}
    assert (
        f"{expected.mean_ap:.4f}" in done.stdout
        and "say, loudly" in done.stdout
        and "the 5 (box, class)" in done.stdout
    )


def test_tool_without_capacity(files):
    assert run_tool(files, "--detections", "det.csv", "--output", "out.json").returncode == 0
    assert json.loads((files / "out.json").read_text())["capacity"] is None


def test_tool_names_the_wrong_line(files):
    lines = (files / "det.csv").read_text().splitlines()
    lines[6] += ",7,8"
    (files / "det.csv").write_text("\n".join(lines))
    done = run_tool(files, "--detections", "det.csv", "--output", "out.json")
    assert done.returncode == 1
    assert done.stderr.startswith("AvaFormatError: det.csv:7: expected 7 or 8 columns")
    assert "Traceback" not in done.stderr and not (files / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--detections", "nowhere.csv"], "FileNotFoundError: .*nowhere.csv"),
        (["--detections", "det.csv", "--capacity", "-1"], "argument --capacity: it is -1; it has to be at least 1"),
    ],
)
def test_tool_ends_in_one_line(files, arguments, error):
    done = run_tool(files, *arguments, "--output", "out.json")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert re.search(error, done.stderr.splitlines()[-1])


def test_swapped_files_are_noticed(files):
    with pytest.raises(ValueError, match=r"det.csv:1: person_id is 0\.\d+, not a whole number: are these detections"):
        evaluate_files(*(str(files / name) for name in ("det.csv", "gt.csv", "list.pbtxt")))


def test_the_metric_does_not_import_torch():
    code = "import sys, vdet_ssl.metrics.ava; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, check=True)
