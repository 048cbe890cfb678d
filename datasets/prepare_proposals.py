#!/usr/bin/env python3
"""Detect people with a detectron2 model and write them as proposals for the action detector (B.3).

    datasets/prepare_proposals.py --videos my_videos/ --output people.csv \\
        --detector COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml --weights model_final_68b088.pkl

People are looked for every `--every-s` seconds, or at the key frames of `--annotations` (a csv in AVA's format).
`--detector` is a config of detectron2's model zoo or a file; its class `--person-class` is the person.
The output has AVA's columns, without an action: video_id,timestamp,x1,y1,x2,y2,,score, boxes XYXY in 0..1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from tqdm import tqdm

from vdet_ssl.data.video.reader import decode_clips, probe
from vdet_ssl.errors import AvaFormatError, VideoError
from vdet_ssl.structures.ava_csv import read_boxes

FRAMES_AT_ONCE = 16  # decoded in one pass


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", nargs="+", required=True, type=Path, help="files, or folders of files")
    parser.add_argument("--output", required=True, type=Path, help="csv to write")
    parser.add_argument("--detector", required=True, help="config in detectron2's model zoo, or a yaml file")
    parser.add_argument("--weights", required=True, help="checkpoint of the detector")
    parser.add_argument("--person-class", type=int, default=0, help="its class that is a person")
    parser.add_argument("--min-score", type=float, default=0.5, help="people below are not written")
    parser.add_argument("--every-s", type=float, default=1.0, help="seconds from one key frame to the next")
    parser.add_argument("--annotations", type=Path, help="take the key frames of this csv instead")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def build_detector(args):
    """Return detectron2's predictor: BGR uint8 (H, W, 3) -> {"instances"}."""
    cfg = get_cfg()
    cfg.merge_from_file(args.detector if Path(args.detector).is_file() else model_zoo.get_config_file(args.detector))
    cfg.MODEL.WEIGHTS = args.weights
    cfg.MODEL.DEVICE = args.device
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = args.min_score
    return DefaultPredictor(cfg)


def key_frames_of(args, path):
    """Return the timestamps of a video, as text."""
    if args.annotations is not None:
        return [timestamp for video_id, timestamp in read_boxes(args.annotations).key_frames if video_id == path.stem]
    return [f"{t:g}" for t in np.arange(0.0, probe(path).duration_s, args.every_s)]


def detect(predictor, path, timestamps, person_class):
    """Return a row (video id, timestamp, x1, y1, x2, y2, None, score) for each person."""
    rows = []
    for start in range(0, len(timestamps), FRAMES_AT_ONCE):
        rows += _detect_frames(predictor, path, timestamps[start : start + FRAMES_AT_ONCE], person_class)
    return rows


def _detect_frames(predictor, path, timestamps, person_class):
    rows = []
    (frames,) = decode_clips(path, [[float(t) for t in timestamps]], backend="pyav", timeout_s=0)
    height, width = frames.shape[1:3]
    for timestamp, frame in zip(timestamps, frames, strict=True):
        people = predictor(frame[:, :, ::-1])["instances"].to("cpu")
        people = people[people.pred_classes == person_class]
        boxes = people.pred_boxes.tensor.numpy() / (width, height, width, height)
        for box, score in zip(boxes.clip(0, 1), people.scores.tolist(), strict=True):
            rows.append((path.stem, timestamp, *box.round(4), None, round(score, 4)))
    return rows


def main():
    args = parse_arguments()
    paths = [p for given in args.videos for p in (sorted(given.iterdir()) if given.is_dir() else [given])]
    predictor = build_detector(args)
    rows = []
    for path in tqdm(paths, unit="video"):
        rows += detect(predictor, path, key_frames_of(args, path), args.person_class)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(args.output, header=False, index=False)
    print(f"{len(rows)} people in {len(paths)} videos -> {args.output}")


if __name__ == "__main__":
    try:
        main()
    except (VideoError, AvaFormatError) as e:
        sys.exit(f"{type(e).__name__}: {e}")
