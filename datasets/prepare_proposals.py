#!/usr/bin/env python3
"""Detect people with a detectron2 model and write them as proposals for the action detector (B.3).

    datasets/prepare_proposals.py --videos my_videos/ --output proposals.csv \\
        --detector COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml --weights model_final_68b088.pkl

People are looked for every `--every-s` seconds, or at the key frames of `--annotations` (a csv in AVA's format); where
the videos are cut from longer ones, `--videos-start-s` says which timestamp their first frame has (AVA's 15 minutes: 900).
`--detector` is a config of detectron2's model zoo or a file; its class `--person-class` is the person.
The output has AVA's columns, without an action: video_id,timestamp,x1,y1,x2,y2,,score, boxes XYXY in 0..1.
A broken video, or one that does not reach to its key frames, costs the others nothing, and is named at the end.
Nothing in the files of the detector is run: yaml is read without Python's tags, weights as arrays alone.
"""

import argparse
import csv
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdet_ssl.errors import CheckpointError, ConfigError, DataError, VideoError, one_line_errors
from vdet_ssl.files import atomic_write

if TYPE_CHECKING:
    from detectron2.engine import DefaultPredictor

    from vdet_ssl.config import CfgNode

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
    parser.add_argument(
        "--videos-start-s",
        type=float,
        default=0.0,
        help="timestamp of the videos' first frame, as in a data set's yaml",
    )
    parser.add_argument("--device", help="cuda, cpu, ... (default: cuda where there is one)")
    return parser


def list_videos(given: Sequence[Path]) -> list[Path]:
    """Return the files that are given, and the videos in the folders that are."""
    paths = [path for place in given for path in (_videos_in(place) if place.is_dir() else [place])]
    name, count = Counter(path.stem for path in paths).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{count} of --videos have the id {name!r}, their people could not be told apart")
    return paths


def _videos_in(folder: Path) -> list[Path]:
    from vdet_ssl.data.datasets.left_out import count_endings, describe_left_out
    from vdet_ssl.data.video.info import is_video

    files = sorted(path for path in folder.iterdir() if path.is_file())
    left_out = describe_left_out(count_endings(path.name for path in files if not is_video(path)))
    videos = [path for path in files if is_video(path)]
    if not videos:
        raise DataError(f"{folder}: there is no video in it" + (f"; {left_out}" if left_out else ""))
    if left_out:
        print(f"{folder}: {left_out}")
    return videos


def detector_config(detector: str) -> "CfgNode":
    """Return the config of a detectron2 model: one of its zoo, which is a part of it, or a file that anybody may have written.

    Such a file is read as ours are: no tags of Python's, each key known.
    """
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    from vdet_ssl.config import CfgNode, read_yaml

    cfg = CfgNode(get_cfg())
    if Path(detector).is_file():
        cfg.merge_settings(read_yaml(detector))
        return cfg
    try:
        return CfgNode(model_zoo.get_config(detector))
    except (RuntimeError, AttributeError) as error:  # the latter for what is not a yaml file
        raise ConfigError(f"--detector {detector} is neither a file nor in detectron2's model zoo") from error


def safe_weights(weights: str) -> str:
    """Return where a detector's checkpoint is on this machine; it holds arrays and plain values alone.

    Raises:
        UserError: it does not, and reading it as detectron2 does could run any code.
    """
    from detectron2.utils.file_io import PathManager

    from vdet_ssl.checkpoint import read_checkpoint
    from vdet_ssl.safe_pickle import read_pickle

    if "://" not in weights and not Path(weights).is_file():
        raise CheckpointError(f"--weights {weights}: there is no such file")
    path = PathManager.get_local_path(weights)
    if path.endswith(".pkl"):  # the only ones that detectron2 reads as pickles
        read_pickle(path)
    else:
        read_checkpoint(path, weights)
    return path


def build_detector(args: argparse.Namespace) -> "DefaultPredictor":
    """Return detectron2's predictor: BGR uint8 (H, W, 3) -> {"instances"}."""
    import torch
    from detectron2.engine import DefaultPredictor

    cfg = detector_config(args.detector)
    cfg.MODEL.WEIGHTS = safe_weights(args.weights)
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


def regular_timestamps(duration_s: float, every_s: float, start_s: float) -> list[str]:
    """Return the timestamps, as text, of a key frame every so many seconds of a video whose first is at `start_s`."""
    import numpy as np

    return [f"{start_s + t:.10g}" for t in np.arange(0.0, duration_s, every_s)]


def detect_in_video(
    predictor: "DefaultPredictor", path: Path, annotated: dict[str, list[str]] | None, args: argparse.Namespace
) -> list[Row]:
    """Return a row for each person at the key frames of a video.

    Args:
        annotated: the timestamps of each video id; None: there is one every so many seconds.
    Raises:
        VideoError: it cannot be decoded, or does not reach to a key frame.
    """
    from vdet_ssl.data.video import probe

    start_s = args.videos_start_s
    duration_s = probe(path).duration_s
    if annotated is None:
        timestamps = regular_timestamps(duration_s, args.every_s, start_s)
    else:
        timestamps = annotated.get(path.stem, [])
        refuse_times_outside(path, timestamps, start_s, duration_s)
    rows = []
    for first in range(0, len(timestamps), FRAMES_AT_ONCE):
        some = timestamps[first : first + FRAMES_AT_ONCE]
        rows += _detect_in_frames(predictor, path, some, start_s, args.person_class)
    return rows


def refuse_times_outside(path: Path, timestamps: Sequence[str], start_s: float, duration_s: float) -> None:
    """Raise VideoError if a key frame is before a video's first frame or after its last, where a reader gives these."""
    from vdet_ssl.data.video.info import TIME_TOLERANCE_S

    outside = [t for t in timestamps if not 0 <= float(t) - start_s <= duration_s + TIME_TOLERANCE_S]
    if outside:
        raise VideoError(
            path,
            f"{len(outside)} of its {len(timestamps)} key frames, at {outside[0]} s for one, are outside of it: it reaches "
            f"from {start_s:g} to {start_s + duration_s:g} s (--videos-start-s says where it starts)",
        )


def _detect_in_frames(
    predictor: "DefaultPredictor", path: Path, timestamps: Sequence[str], start_s: float, person_class: int
) -> list[Row]:
    import numpy as np

    from vdet_ssl.data.video import decode_clips

    rows: list[Row] = []
    (clip,) = decode_clips(path, [[float(t) - start_s for t in timestamps]])
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

    if not 0 < args.every_s < math.inf:
        raise ConfigError(f"--every-s is {args.every_s:g}; it has to be positive")
    paths = list_videos(args.videos)
    annotated = annotated_timestamps(args.annotations) if args.annotations else None
    if annotated is not None and not any(path.stem in annotated for path in paths):
        raise DataError(f"{args.annotations} names none of the videos, but {', '.join(list(annotated)[:3])}, ...")
    predictor = build_detector(args)
    rows, broken = [], []
    for path in tqdm(paths, unit="video"):
        try:
            rows += detect_in_video(predictor, path, annotated, args)
        except VideoError as error:
            broken.append(str(error))
    if len(broken) < len(paths):
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(args.output) as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        print(f"{len(rows)} people in {len(paths) - len(broken)} videos -> {args.output}")
    if broken:
        sys.exit("\n  ".join([f"{len(broken)} of {len(paths)} videos cannot be used:", *broken]))


if __name__ == "__main__":
    with one_line_errors():
        main(parser().parse_args())
