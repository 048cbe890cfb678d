#!/usr/bin/env python3
"""Detect people with a detectron2 model and write them as proposals for the action detector (B.3).

    datasets/prepare_proposals.py --videos my_videos/ --output proposals.csv \\
        --detector COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml --weights model_final_68b088.pkl

People are looked for every `--every-s` seconds, or at the key frames of `--annotations` (a csv in AVA's format).
`--detector` is a config of detectron2's model zoo or a file; its class `--person-class` is the person.
The output has AVA's columns, without an action: video_id,timestamp,x1,y1,x2,y2,,score, boxes XYXY in 0..1.
A broken video costs the others nothing, and is named at the end.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdet_ssl.errors import CheckpointError, ConfigError, DataError, VideoError, one_line_errors

if TYPE_CHECKING:
    from detectron2.engine import DefaultPredictor

# Heavy imports stand where they are used: --help takes no time.

FRAMES_AT_ONCE = 16  # decoded in one pass
Row = tuple[str | float | None, ...]  # video id, timestamp, x1, y1, x2, y2, None, score


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", nargs="+", required=True, type=Path, help="files, or folders of files")
    parser.add_argument("--output", required=True, type=Path, help="csv to write")
    parser.add_argument("--detector", required=True, help="config in detectron2's model zoo, or a yaml file")
    parser.add_argument("--weights", required=True, help="checkpoint of the detector")
    parser.add_argument("--person-class", type=int, default=0, help="its class that is a person")
    parser.add_argument("--min-score", type=float, default=0.5, help="people below are not written")
    parser.add_argument("--every-s", type=float, default=1.0, help="seconds from one key frame to the next")
    parser.add_argument("--annotations", type=Path, help="take the key frames of this csv instead")
    parser.add_argument("--device", help="cuda, cpu, ... (default: cuda where there is one)")
    return parser


def list_videos(given: Sequence[Path]) -> list[Path]:
    """Return the files that are given, and the videos in the folders that are."""
    from vdet_ssl.data.video.info import is_video

    paths = []
    for path in given:
        found = sorted(filter(is_video, path.iterdir())) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path}: there is no video in it")
        paths += found
    return paths


def build_detector(args: argparse.Namespace) -> "DefaultPredictor":
    """Return detectron2's predictor: BGR uint8 (H, W, 3) -> {"instances"}."""
    import torch
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor

    cfg = get_cfg()
    try:
        file = args.detector if Path(args.detector).is_file() else model_zoo.get_config_file(args.detector)
    except RuntimeError as error:
        raise ConfigError(f"--detector {args.detector} is neither a file nor in detectron2's model zoo") from error
    if "://" not in args.weights and not Path(args.weights).is_file():
        raise CheckpointError(f"--weights {args.weights}: there is no such file")
    cfg.merge_from_file(file)
    cfg.MODEL.WEIGHTS = args.weights
    cfg.MODEL.DEVICE = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = args.min_score
    return DefaultPredictor(cfg)


def annotated_timestamps(path: Path) -> dict[str, list[str]]:
    """Return the timestamps, as text, of the key frames of each video id in a csv in AVA's format."""
    from vdet_ssl.structures.ava_csv import read_boxes

    timestamps = defaultdict(list)
    for video_id, timestamp in read_boxes(path).key_frames:
        timestamps[video_id].append(timestamp)
    return timestamps


def regular_timestamps(path: Path, every_s: float) -> list[str]:
    """Return the timestamps, as text, of a key frame every so many seconds of a video."""
    import numpy as np

    from vdet_ssl.data.video import probe

    return [f"{t:g}" for t in np.arange(0.0, probe(path).duration_s, every_s)]


def detect(predictor: "DefaultPredictor", path: Path, timestamps: Sequence[str], person_class: int) -> list[Row]:
    """Return a row for each person at these timestamps of a video."""
    rows = []
    for start in range(0, len(timestamps), FRAMES_AT_ONCE):
        rows += _detect_in_frames(predictor, path, timestamps[start : start + FRAMES_AT_ONCE], person_class)
    return rows


def _detect_in_frames(
    predictor: "DefaultPredictor", path: Path, timestamps: Sequence[str], person_class: int
) -> list[Row]:
    import numpy as np

    from vdet_ssl.data.video import decode_clips

    rows: list[Row] = []
    (clip,) = decode_clips(path, [[float(t) for t in timestamps]])
    frames = np.asarray(clip)
    height, width = frames.shape[1:3]
    for timestamp, frame in zip(timestamps, frames, strict=True):
        people = predictor(frame[:, :, ::-1])["instances"].to("cpu")
        people = people[people.pred_classes == person_class]
        boxes = people.pred_boxes.tensor.numpy() / (width, height, width, height)
        for box, score in zip(boxes.clip(0, 1).round(4).tolist(), people.scores.tolist(), strict=True):
            rows.append((path.stem, timestamp, *box, None, round(score, 4)))
    return rows


def main(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    if args.every_s <= 0:
        raise ConfigError(f"--every-s is {args.every_s:g}; it has to be positive")
    paths = list_videos(args.videos)
    annotated = annotated_timestamps(args.annotations) if args.annotations else None
    predictor = build_detector(args)
    rows, broken = [], []
    for path in tqdm(paths, unit="video"):
        try:
            timestamps = regular_timestamps(path, args.every_s) if annotated is None else annotated[path.stem]
            rows += detect(predictor, path, timestamps, args.person_class)
        except VideoError as error:
            broken.append(str(error))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with open(args.output, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    print(f"{len(rows)} people in {len(paths) - len(broken)} videos -> {args.output}")
    if broken:
        sys.exit("\n  ".join([f"{len(broken)} of {len(paths)} videos are broken:", *broken]))


if __name__ == "__main__":
    with one_line_errors():
        main(parser().parse_args())
