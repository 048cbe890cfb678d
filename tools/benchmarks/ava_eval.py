"""Time AVA's metric: from csv files, and from arrays in memory.

Without files of your own it writes some that are shaped like the validation set of AVA v2.2 with detections of all
classes for each person: about 262k labels and 6.5M detections.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from vdet_ssl.metrics.ava import evaluate, evaluate_files
from vdet_ssl.metrics.ava_result import OFFICIAL_CAPACITY
from vdet_ssl.structures.ava_csv import BoxTable, read_boxes, write_boxes
from vdet_ssl.structures.label_map import read_label_map

NUM_CLASSES = 60


def add_arguments(parser):
    parser.add_argument("--ground-truth", help="csv in AVA's format")
    parser.add_argument("--detections", help="csv in AVA's format")
    parser.add_argument("--label-map", help="pbtxt of the classes")
    parser.add_argument("--key-frames", type=int, default=57408, help="of the files it writes")
    parser.add_argument("--repeats", type=int, default=3)


def run(args):
    with tempfile.TemporaryDirectory() as folder:
        files = args.ground_truth, args.detections, args.label_map
        if not all(files):
            if any(files):
                raise SystemExit("give --ground-truth, --detections and --label-map, or none of them")
            files = write_files(Path(folder), args.key_frames)
        return measure(*files, args.repeats)


def measure(ground_truth, detections, label_map, repeats):
    """Print and return seconds, the best of `repeats`, of wall time and of processor time."""
    truth, found, names = read_boxes(ground_truth), read_boxes(detections), read_label_map(label_map)
    print(f"{len(truth)} labels, {len(found)} detections")
    figures = {}
    for capacity in (None, OFFICIAL_CAPACITY):
        for source, function in {
            "csv": lambda capacity=capacity: evaluate_files(ground_truth, detections, label_map, capacity),
            "memory": lambda capacity=capacity: evaluate(truth, found, names, capacity),
        }.items():
            seconds = [time_of(function) for _ in range(repeats)]
            wall_s, cpu_s = (min(column) for column in zip(*seconds, strict=True))
            figures[f"{source}_capacity_{capacity or 'none'}"] = {"wall_s": wall_s, "cpu_s": cpu_s}
            print(f"from {source}, capacity {capacity}: {wall_s:.2f} s ({cpu_s:.2f} s of processor time)")
    return figures


def time_of(function):
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def write_files(folder, num_key_frames, seed=0):
    """Write ground truth, detections and label map of made-up people; return the three paths."""
    rng = np.random.default_rng(seed)
    key_frames = [(f"video{i // 897:06d}", f"{902 + i % 897:04d}") for i in range(num_key_frames)]
    key = np.repeat(np.arange(num_key_frames), rng.poisson(1.9, num_key_frames))
    corner, size = rng.uniform(0, 0.6, (len(key), 2)), rng.uniform(0.1, 0.4, (len(key), 2))
    boxes = np.hstack([corner, corner + size]).round(3)
    frequency = 1.0 / np.arange(1, NUM_CLASSES + 1) ** 1.5
    does = rng.uniform(size=(len(key), NUM_CLASSES)) < 2.4 * frequency / frequency.sum()
    person, action = np.nonzero(does)
    truth = BoxTable(key_frames, key[person], boxes[person], action + 1, np.ones(len(person)))

    missed = rng.uniform(size=len(key)) < 0.05
    people = np.sort(np.concatenate([np.flatnonzero(~missed), rng.choice(len(key), len(key) // 20)]))  # some twice
    near = (boxes[people] + rng.normal(0, 0.02, (len(people), 4))).clip(0, 1).round(3)
    score = (rng.beta(0.5, 6, (len(people), NUM_CLASSES)) + does[people] * rng.uniform(0, 0.5)).clip(0, 1).round(4)
    found = BoxTable(
        key_frames,
        np.repeat(key[people], NUM_CLASSES),
        np.repeat(near, NUM_CLASSES, axis=0),
        np.tile(np.arange(1, NUM_CLASSES + 1), len(people)),
        score.ravel(),
    )
    paths = [str(folder / name) for name in ("ground_truth.csv", "detections.csv", "actions.pbtxt")]
    write_boxes(paths[0], truth)
    write_boxes(paths[1], found)
    items = [f'item {{\n  name: "action {i}"\n  id: {i}\n}}\n' for i in range(1, NUM_CLASSES + 1)]
    Path(paths[2]).write_text("".join(items))
    return paths
