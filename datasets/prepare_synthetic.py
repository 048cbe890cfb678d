#!/usr/bin/env python3
"""Render a small world of moving people: unlabelled videos, labelled ones with AVA-style annotations, lists for kNN.

    python datasets/prepare_synthetic.py --output output/world

writes videos/*.mp4; pretrain.csv (videos to pre-train on), knn_train.csv and knn_val.csv (the same kind, to judge features
on); train.yaml and val.yaml with all they name (annotations, excluded timestamps, list of actions); train_proposals.csv and
val_proposals.csv (people as a detector would find them); world.json.  The same options and seed give the same files.

In a video of the lists what people do persists, and everything else changes at each cut: place, light, camera, looks,
headings, sizes, speeds.  The label of a list is that action; pre-training does not look at it.  Clothes and places of
knn_val and val are of other kinds than those of the other splits.
"""

import argparse
import itertools
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from synthetic.actions import PAIRS, POSES, Action
from synthetic.shot import TEST, TRAIN, Domain, Film, Shot
from tqdm import tqdm

from vdet_ssl.data.video.writer import VideoWriter
from vdet_ssl.errors import one_line_errors

DOMAINS = {"pretrain": TRAIN, "knn_train": TRAIN, "knn_val": TEST, "train": TRAIN, "val": TEST}
LABELLED = ("train", "val")
CLIP_S = 0.25  # a key frame nearer to a cut is excluded: clips around it show both sides

Row = tuple[object, ...]


@dataclass
class Annotations:
    """Rows of a labelled split's csv files."""

    boxes: list[Row] = field(default_factory=list)
    excluded: list[Row] = field(default_factory=list)
    proposals: list[Row] = field(default_factory=list)

    def extend(self, other: "Annotations") -> None:
        self.boxes += other.boxes
        self.excluded += other.excluded
        self.proposals += other.proposals


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    folder = Path(args.output)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    jobs = [(split, index, args) for split in DOMAINS for index in range(getattr(args, f"{split}_videos"))]
    # Not forked: OpenCV's threads do not survive it.
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(tqdm(pool.map(make_video, jobs, chunksize=4), total=len(jobs), desc="videos", unit="video"))
    made = [(split, *result) for (split, _, _), result in zip(jobs, results, strict=True)]
    for split in DOMAINS:
        write_split(folder, split, [(video_id, content) for name, video_id, content in made if name == split])
    items = (f'item {{\n  name: "{action.name}"\n  id: {i}\n}}\n' for i, action in enumerate(vocabulary(args), 1))
    (folder / "actions.pbtxt").write_text("".join(items))
    options = {key: value for key, value in vars(args).items() if key not in ("output", "jobs")}
    (folder / "world.json").write_text(json.dumps(options, indent=2) + "\n")
    print(f"{len(results)} videos in {folder}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument("--pretrain-videos", type=not_negative, default=600, help="unlabelled videos to pre-train on")
    parser.add_argument("--knn-train-videos", type=not_negative, default=240, help="more of the same to fit a probe on")
    parser.add_argument("--knn-val-videos", type=not_negative, default=240, help="videos that kNN and probes classify")
    parser.add_argument("--train-videos", type=not_negative, default=12, help="labelled videos to train on")
    parser.add_argument("--val-videos", type=not_negative, default=24, help="labelled videos to evaluate on")
    parser.add_argument("--seconds", type=positive, default=9, help="length of a labelled video")
    parser.add_argument(
        "--shot-seconds", type=positive, default=1, help="length of its shots, but for the first and last"
    )
    parser.add_argument(
        "--key-frame-rate", type=positive, default=1, help="annotated frames a second of a labelled video"
    )
    parser.add_argument(
        "--size", type=even, default=64, help="height in pixels; labelled videos are half as wide again"
    )
    parser.add_argument("--fps", type=positive, default=8, help="frames a second")
    parser.add_argument(
        "--temporal", action="store_true", help="pairs of actions that differ in the order of their frames alone"
    )
    parser.add_argument("--seed", type=not_negative, default=0)
    parser.add_argument("--jobs", type=positive, default=os.cpu_count(), help="processes")
    return parser.parse_args(argv)


def not_negative(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: has to be a whole number, 0 or more")
    return int(text)


def positive(text: str) -> int:
    if not_negative(text) == 0:
        raise argparse.ArgumentTypeError(f"{text}: has to be at least 1")
    return int(text)


def even(text: str) -> int:
    pixels = not_negative(text)
    if pixels % 4 or pixels < 32:
        raise argparse.ArgumentTypeError(f"{text}: has to be a multiple of 4 and at least 32")
    return pixels


def vocabulary(args: argparse.Namespace) -> tuple[Action, ...]:
    """The actions of a world; an action's id is its place, from 1."""
    return PAIRS if args.temporal else POSES


def make_video(job: tuple[str, int, argparse.Namespace]) -> tuple[str, int | Annotations]:
    """Render one video; return its id and its label (1...) or its annotations."""
    split, index, args = job
    cv2.setNumThreads(0)  # not 1, which can wait for ever in a forked process for threads of its parent
    video_id = f"{split}_{index:05d}"
    rng = np.random.default_rng([args.seed, list(DOMAINS).index(split), index])
    if split in LABELLED:
        film = Film(args.fps, (args.size * 3 // 2, args.size))
        shots = labelled_video(rng, DOMAINS[split], vocabulary(args), args, film)
        content: int | Annotations = annotate(video_id, shots, args, rng)
    else:
        film = Film(args.fps, (args.size, args.size))
        content = int(rng.integers(len(vocabulary(args)))) + 1
        shots = unlabelled_video(rng, DOMAINS[split], vocabulary(args)[content - 1], film)
    frames = itertools.chain.from_iterable(shot.frames() for shot in shots)
    write_video(Path(args.output) / "videos" / f"{video_id}.mp4", frames, film, crf=int(rng.integers(16, 27)))
    return video_id, content


def unlabelled_video(rng: np.random.Generator, domain: Domain, action: Action, film: Film) -> list[Shot]:
    """Shots of one person, rarely two, who all do the same; where they are and who changes from shot to shot.

    Actions that are done once take a shot of about a second, so that a clip can show them.
    """
    seconds = (0.6, 1.0) if action.cyclic else (0.9, 1.3)
    shots = []
    for _ in range(rng.integers(4, 8)):
        people = [action] * (1 + (rng.random() < 0.15))
        shots.append(Shot(rng, domain, people, round(rng.uniform(*seconds) * film.frame_rate), film))
    return shots


def labelled_video(
    rng: np.random.Generator, domain: Domain, actions: Sequence[Action], args: argparse.Namespace, film: Film
) -> list[Shot]:
    """Shots of one to three people who do different things, cut around the half seconds."""
    cuts = [0]
    for second in range(args.shot_seconds, args.seconds - 1, args.shot_seconds):
        cuts.append(round((second + 0.5 + np.clip(rng.normal(0, 0.15), -0.4, 0.4)) * film.frame_rate))
    cuts.append(args.seconds * film.frame_rate)
    shots = []
    for first, last in itertools.pairwise(cuts):
        people = [actions[i] for i in rng.integers(len(actions), size=rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1]))]
        shots.append(Shot(rng, domain, people, last - first, film))
    return shots


def write_video(path: Path, frames: Iterable[NDArray], film: Film, *, crf: int) -> None:
    """Encode uint8 (H, W, 3) RGB frames as H.264."""
    # One thread: the same bytes on every machine.  A key frame every 8: a clip costs little to reach.
    options = {"preset": "ultrafast", "crf": str(crf), "threads": "1", "g": "8"}
    width, height = film.size
    with VideoWriter(path, fps=film.frame_rate, width=width, height=height, options=options) as writer:
        for image in frames:
            writer.write(image)


def annotate(video_id: str, shots: list[Shot], args: argparse.Namespace, rng: np.random.Generator) -> Annotations:
    """Annotate a labelled video at each full second (or fraction of it) but its first and last."""
    rows = Annotations()
    ids = {action.name: i for i, action in enumerate(vocabulary(args), 1)}
    starts = np.cumsum([0] + [shot.num_frames for shot in shots])
    for key in range(args.key_frame_rate, (args.seconds - 1) * args.key_frame_rate + 1):
        frame, time_s = key * args.fps // args.key_frame_rate, key / args.key_frame_rate
        timestamp = f"{time_s:04.0f}" if args.key_frame_rate == 1 else f"{time_s:.3f}"
        at = int(np.searchsorted(starts, frame, side="right")) - 1
        if min(frame - starts[at], starts[at + 1] - frame) < CLIP_S * args.fps:
            rows.excluded.append((video_id, timestamp))
        people = visible_people(shots[at], frame - starts[at])
        for person, (box, action) in enumerate(people):
            rows.boxes.append((video_id, timestamp, *_digits(box), ids[action.name], person))
        for box, score in noisy_proposals(rng, [box for box, _ in people]):
            rows.proposals.append((video_id, timestamp, *_digits(box), "", f"{score:.6f}"))
    return rows


def visible_people(shot: Shot, frame: int) -> list[tuple[NDArray, Action]]:
    """Boxes (XYXY, 0..1, cut at the border) of the people of whom at least half is in the frame, and what they do."""
    people = []
    for whole, action in zip(shot.boxes[:, frame] / np.tile(shot.film.size, 2), shot.actions, strict=True):
        # to the csv's three digits, rounded outwards
        seen = np.clip(np.concatenate([np.floor(whole[:2] * 1000), np.ceil(whole[2:] * 1000)]) / 1000, 0, 1)
        if (seen[2:] > seen[:2]).all() and np.prod(seen[2:] - seen[:2]) >= 0.5 * np.prod(whole[2:] - whole[:2]):
            people.append((seen, action))
    return people


def noisy_proposals(
    rng: np.random.Generator,
    boxes: Iterable[NDArray],
    *,
    miss: float = 0.04,
    unsure: float = 0.06,
    jitter: float = 0.04,
    false_rate: float = 0.4,
) -> list[tuple[NDArray, float]]:
    """What a person detector would find.

    Args:
        boxes: ground truth, each (4,) XYXY in 0..1.
        miss: fraction of people who are not found.
        unsure: fraction of people found with a low score.
        jitter: standard deviation of each side, as a fraction of the box's width or height.
        false_rate: mean number of boxes around nobody in a frame, most of them with low scores.
    Returns:
        list of (box XYXY in 0..1, score in 0..1).
    """
    proposals = []
    for box in boxes:
        if rng.random() < miss:
            continue
        moved = box + rng.normal(0, jitter, 4) * np.tile(box[2:] - box[:2], 2)
        score = rng.uniform(0.3, 0.8) if rng.random() < unsure else rng.uniform(0.91, 1.0)
        proposals.append((np.clip(moved, 0, 1), score))
    for _ in range(rng.poisson(false_rate)):
        height, aspect = rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.6)
        x, y = rng.uniform(0, 1 - height * aspect), rng.uniform(0, 1 - height)
        proposals.append((np.array([x, y, x + height * aspect, y + height]), rng.beta(1.2, 6)))
    return proposals


def _digits(box: NDArray) -> tuple[str, ...]:
    return tuple(f"{value:.3f}" for value in box)


def write_split(folder: Path, split: str, videos: list[tuple[str, int | Annotations]]) -> None:
    """Write what a split says of its videos: a list with labels, or annotations and the yaml that names them."""
    if split not in LABELLED:
        listed = [(f"videos/{video_id}.mp4", label) for video_id, label in videos]
        _write_rows(folder / f"{split}.csv", [("path", "label"), *listed])
        return
    rows = Annotations()
    for _, content in videos:
        if isinstance(content, Annotations):
            rows.extend(content)
    _write_rows(folder / f"{split}.csv", rows.boxes)
    _write_rows(folder / f"{split}_excluded.csv", rows.excluded)
    _write_rows(folder / f"{split}_proposals.csv", rows.proposals)
    (folder / f"{split}.yaml").write_text(
        f"annotations: {split}.csv\n"
        "label_map: actions.pbtxt\n"
        f"excluded_timestamps: {split}_excluded.csv\n"
        "videos: videos\n"
    )


def _write_rows(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))


if __name__ == "__main__":
    with one_line_errors():
        main()
