#!/usr/bin/env python3
"""Draw a result csv (video_id,timestamp,x1,y1,x2,y2,action_id,score) into videos.

python tools/visualize_detections.py --detections results.csv --label-map actions.pbtxt --output output_folder a.mp4 b.mp4
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vdet_ssl.errors import VideoError
from vdet_ssl.structures.ava_csv import read_boxes, read_label_map
from vdet_ssl.visualization.annotated_video import key_frames_of_table, without_scores, write_annotated_video


def main():
    args = parse_args()
    class_names = read_label_map(args.label_map)
    detections = read_boxes(args.detections)
    truth = read_boxes(args.ground_truth, score="person_id") if args.ground_truth else None
    Path(args.output).mkdir(parents=True, exist_ok=True)
    for video in map(Path, args.videos):
        found = key_frames_of_table(detections, class_names, video.stem, top_k=args.top_k, min_score=args.min_score)
        if not found:
            ids = ", ".join(sorted({video_id for video_id, _ in detections.key_frames})[:5])
            raise ValueError(f"{args.detections}: nothing about the video {video.stem!r}; it names {ids}, ...")
        shown = [] if truth is None else true_key_frames(truth, class_names, video.stem)
        output = Path(args.output) / f"{video.stem}_annotated.mp4"
        write_annotated_video(video, output, found, shown)
        print(f"{output}: {len(found)} key frames")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", help="videos named <video_id>.<extension>")
    parser.add_argument("--detections", required=True, help="result csv, plain or gzip")
    parser.add_argument("--label-map", required=True, help="list of actions, pbtxt")
    parser.add_argument(
        "--ground-truth", help="annotation csv: shown in white, wrong actions in red, right ones in green"
    )
    parser.add_argument("--output", required=True, help="folder for <video_id>_annotated.mp4")
    parser.add_argument("--top-k", type=int, default=3, help="actions shown of a person")
    parser.add_argument("--min-score", type=float, default=0.3, help="actions below are not shown")
    return parser.parse_args()


def true_key_frames(truth, class_names, video_id):
    every = {"top_k": len(class_names), "min_score": float("-inf")}
    return without_scores(key_frames_of_table(truth, class_names, video_id, **every))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, VideoError) as error:
        sys.exit(f"error: {error}")
