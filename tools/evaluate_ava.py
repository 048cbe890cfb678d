#!/usr/bin/env python3
"""Compute AVA's mean average precision from csv files alone.

    tools/evaluate_ava.py --ground-truth ava_val_v2.2.csv --detections detections.csv --label-map actions.pbtxt \\
        --excluded ava_val_excluded_timestamps_v2.2.csv --capacity 50 --output results.json

Files are in AVA's formats, plain or gzip.  The official evaluator counts the 50 (box, class) detections of highest score
in each key frame, which is --capacity 50; without --capacity all of them count, which nobody else reports.
--as-pyslowfast gives the figure that PySlowFast logs: all detections count, also those in key frames without ground
truth, and a person is found by the first detection in the file's order, not by that of the highest score.
The output is {"mAP": x, "capacity": N or null, "AP": {class name: x, or null without ground truth}}, with
"as_pyslowfast": true beside the capacity where that was asked for.
"""

import argparse
import json
import logging
from pathlib import Path

from vdet_ssl.errors import one_line_errors


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ground-truth", required=True, help="csv or csv.gz: video_id,timestamp,box,action_id,person_id"
    )
    parser.add_argument("--detections", required=True, help="csv or csv.gz: video_id,timestamp,box,action_id,score")
    parser.add_argument("--label-map", required=True, help="pbtxt of the classes; others are left out")
    rules = parser.add_mutually_exclusive_group()
    rules.add_argument(
        "--capacity", type=capacity, metavar="N", help="detections kept of a key frame; not given or 0: all"
    )
    rules.add_argument("--as-pyslowfast", action="store_true", help="count as PySlowFast does")
    parser.add_argument("--excluded", help="csv of video_id,timestamp to leave out")
    parser.add_argument("--output", required=True, type=Path, help="json to write")
    return parser


def capacity(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"it is {text}; it has to be at least 1, or 0 for all")
    return int(text)


def main(args: argparse.Namespace) -> None:
    from vdet_ssl.metrics.ava import evaluate_files

    logging.basicConfig(format="%(levelname)s: %(message)s")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    files = args.ground_truth, args.detections, args.label_map
    result = evaluate_files(*files, args.capacity, args.excluded, as_pyslowfast=args.as_pyslowfast)
    print(result.table())
    print(f"({result.describe()})")
    args.output.write_text(json.dumps(result.as_dict(), indent=1) + "\n")


if __name__ == "__main__":
    with one_line_errors():
        main(parser().parse_args())
