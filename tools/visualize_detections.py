#!/usr/bin/env python3
"""Draw a result csv (video_id,timestamp,x1,y1,x2,y2,action_id,score) into videos.

python tools/visualize_detections.py --detections results.csv --label-map actions.pbtxt --output output_folder a.mp4 b.mp4
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vdet_ssl.errors import DataError, one_line_errors

if TYPE_CHECKING:
    from vdet_ssl.structures.ava_csv import BoxTable
    from vdet_ssl.visualization.annotated_video import KeyFrame

# Heavy imports stand where they are used: --help takes no time.


def main(args: argparse.Namespace) -> None:
    from vdet_ssl.structures.ava_csv import read_boxes
    from vdet_ssl.structures.label_map import read_label_map
    from vdet_ssl.visualization.annotated_video import key_frames_of_table, write_annotated_video

    class_names = read_label_map(args.label_map)
    table = read_boxes(args.detections)
    ground_truth = read_boxes(args.ground_truth, score="person_id") if args.ground_truth else None
    args.output.mkdir(parents=True, exist_ok=True)
    for video in args.videos:
        detections = key_frames_of_table(table, class_names, video.stem, top_k=args.top_k, min_score=args.min_score)
        if not detections:
            ids = ", ".join(sorted({video_id for video_id, _ in table.key_frames})[:5])
            raise DataError(f"{args.detections}: nothing about the video {video.stem!r}; it names {ids}, ...")
        shown = [] if ground_truth is None else true_key_frames(ground_truth, class_names, video.stem)
        output = args.output / f"{video.stem}_annotated.mp4"
        write_annotated_video(video, output, detections, shown)
        print(f"{output}: {len(detections)} key frames")


def true_key_frames(ground_truth: "BoxTable", class_names: dict[int, str], video_id: str) -> list["KeyFrame"]:
    from vdet_ssl.visualization.annotated_video import key_frames_of_table, without_scores

    every = key_frames_of_table(ground_truth, class_names, video_id, top_k=len(class_names), min_score=float("-inf"))
    return without_scores(every)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, help="videos named <video_id>.<extension>")
    parser.add_argument("--detections", required=True, help="result csv, plain or gzip")
    parser.add_argument("--label-map", required=True, help="list of actions, pbtxt")
    parser.add_argument(
        "--ground-truth", help="annotation csv: shown in white, true positives in green, false ones in red"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for <video_id>_annotated.mp4")
    parser.add_argument("--top-k", type=at_least_1, default=3, help="actions shown of a person")
    parser.add_argument("--min-score", type=float, default=0.3, help="actions below are not shown")
    return parser


def at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is {text}; it has to be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    with one_line_errors():
        main(parser().parse_args())
