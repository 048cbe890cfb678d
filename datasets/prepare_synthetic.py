#!/usr/bin/env python3
"""Render a small world of moving people: videos with AVA-style annotations, and unlabelled videos for pre-training.

    python datasets/prepare_synthetic.py --output datasets/synthetic_world

writes videos/*.mp4; train.yaml and val.yaml with all they name (annotations, excluded timestamps, list of actions);
train_proposals.csv and val_proposals.csv (noisy detected people); pretrain.csv and knn_val.csv (unlabelled videos, with
the label of the action that persists in each, for the kNN monitor alone); world.json.  The same options and seed give
the same files.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from synthetic.annotations import annotate, write_label_map, write_split, write_summary, write_video_list
from synthetic.world import SETTINGS, dominant_actions, plan_labelled, plan_unlabelled
from tqdm import tqdm

from vdet_ssl.data.video.writer import VideoWriter

SPLITS = ("train", "val", "pretrain", "knn_val")


def main(argv=None):
    args = parse_args(argv)
    folder = Path(args.output)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    counts = (args.train_videos, args.val_videos, args.unlabelled_videos, args.knn_videos)
    jobs = [(split, index, args) for split, count in zip(SPLITS, counts, strict=True) for index in range(count)]
    with ProcessPoolExecutor(args.jobs) as pool:
        results = list(tqdm(pool.map(make_video, jobs), total=len(jobs), desc="videos", unit="video"))
    write_world(folder, args, [(split, *result) for (split, _, _), result in zip(jobs, results, strict=True)])
    print(f"{len(results)} videos in {folder}; data sets: train.yaml, val.yaml, pretrain.csv, knn_val.csv")


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument("--train-videos", type=int, default=48, help="labelled videos to train on")
    parser.add_argument("--val-videos", type=int, default=24, help="labelled videos to evaluate on")
    parser.add_argument("--unlabelled-videos", type=int, default=108, help="videos to pre-train on")
    parser.add_argument("--knn-videos", type=int, default=36, help="more of the same that the kNN monitor classifies")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a video")
    parser.add_argument("--size", type=picture_size, default=(160, 120), metavar="WxH", help="even numbers of pixels")
    parser.add_argument("--fps", type=int, default=15, help="frames a second")
    parser.add_argument(
        "--setting", choices=SETTINGS, default="places", help="full places with a moving camera, or an empty studio"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args(argv)


def picture_size(text):
    width, height = (int(value) for value in text.split("x"))
    if width % 2 or height % 2 or min(width, height) < 32:
        raise argparse.ArgumentTypeError(f"{text}: width and height have to be even and at least 32")
    return width, height


def make_video(job):
    """Render one video; returns (video id, action or None, rows of annotations or None)."""
    split, index, args = job
    cv2.setNumThreads(1)
    video_id, rng = f"{split}_{index:05d}", np.random.default_rng([args.seed, SPLITS.index(split), index])
    setting = SETTINGS[args.setting]
    form = {"seconds": args.seconds, "frame_rate": args.fps, "size": args.size}
    if split in ("train", "val"):
        plan = plan_labelled(rng, setting, **form)
        rows = annotate(video_id, plan.shots[0], args.fps, rng)
    else:
        plan, rows = plan_unlabelled(rng, setting, dominant_actions(index + 1)[index], **form), None
    write_video(Path(args.output) / "videos" / f"{video_id}.mp4", plan.frames(), args.fps, args.size)
    return video_id, plan.action, rows


def write_video(path, frames, frame_rate, size):
    """Encode uint8 (H, W, 3) RGB frames as H.264."""
    # One thread: the same bytes on every machine.  A key frame every 8: a clip costs little to reach.
    options = {"preset": "ultrafast", "crf": "23", "threads": "1", "g": "8"}
    width, height = size
    with VideoWriter(path, fps=frame_rate, width=width, height=height, options=options) as writer:
        for image in frames:
            writer.write(image)


def write_world(folder, args, made):
    """Write all annotations; `made` holds (split, video id, action, rows) of every video."""
    rows = {}
    for split in ("train", "val"):
        of_split = [video_rows for name, _, _, video_rows in made if name == split]
        rows[split] = {key: [row for r in of_split for row in r[key]] for key in ("boxes", "excluded", "proposals")}
        write_split(folder, split, rows[split])
    for split in ("pretrain", "knn_val"):
        listed = [(video_id, action) for name, video_id, action, _ in made if name == split]
        write_video_list(folder / f"{split}.csv", [v for v, _ in listed], [a for _, a in listed])
    write_label_map(folder)
    options = {key: value for key, value in vars(args).items() if key not in ("output", "jobs")}
    write_summary(folder, options, rows)


if __name__ == "__main__":
    main()
