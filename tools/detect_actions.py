#!/usr/bin/env python3
"""Run a trained action detector on videos that have no annotations.

    tools/detect_actions.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --videos a.mp4 b.mp4 \\
        --proposals people.csv --label-map actions.pbtxt --output output/mine MODEL.WEIGHTS output/ava/model_final.pth

`--proposals` are people at the key frames that are wanted, as datasets/prepare_proposals.py writes them; with
`--whole-frame` there is one box, the frame, at every second instead.  Written are detections.csv (AVA's result
format) and an annotated copy of each video; a broken one costs the others nothing, and is named at the end.
"""

import argparse
import sys
from pathlib import Path

from vdet_ssl.errors import ConfigError, VideoError, one_line_errors
from vdet_ssl.files import naming


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--videos", nargs="+", required=True, type=Path)
    boxes = parser.add_mutually_exclusive_group(required=True)
    boxes.add_argument("--proposals", help="csv or pkl of people")
    boxes.add_argument("--whole-frame", action="store_true", help="one box: the frame, every second")
    parser.add_argument("--label-map", required=True, help="pbtxt of the actions that the detector was trained on")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--top-k", type=at_least_1, default=3, help="actions shown of a person")
    parser.add_argument("--min-score", type=float, default=0.3, help="actions below are not shown")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides of the config")
    return parser


def at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is {text}; it has to be a whole number of at least 1")
    return int(text)


def main(args: argparse.Namespace) -> None:
    from vdet_ssl.engine.predictor import ActionPredictor, proposal_records, whole_frame_records
    from vdet_ssl.engine.setup import setup_loggers
    from vdet_ssl.structures.ava_csv import append_boxes
    from vdet_ssl.visualization.annotated_video import key_frames_of_table, write_annotated_video

    setup_loggers()
    if len({path.stem for path in args.videos}) < len(args.videos):
        raise ConfigError("two of --videos have the same name; results could not be told apart")
    records = None if args.whole_frame else proposal_records(args.videos, args.proposals)
    predictor = ActionPredictor(args.config_file, label_map=args.label_map, overrides=args.opts)
    args.output.mkdir(parents=True, exist_ok=True)
    rows, broken, num_key_frames, num_detections = args.output / "detections.csv", [], 0, 0
    rows.unlink(missing_ok=True)
    rows.touch()
    for path in sorted(args.videos, key=lambda path: path.stem):  # the order of the rows
        try:
            records_here = whole_frame_records(path) if records is None else records[path]
            if not records_here:
                print(f"{path}: no people in {args.proposals}, nothing to detect")
                continue
            table = predictor.table(predictor.detect(records_here))
            append_boxes(rows, table)  # as it goes: what comes later may fail
            num_key_frames, num_detections = num_key_frames + len(table.key_frames), num_detections + len(table)
            options = {"top_k": args.top_k, "min_score": args.min_score}
            shown = key_frames_of_table(table, predictor.class_names, path.stem, **options)
            annotated = args.output / f"{path.stem}_annotated.mp4"
            with naming(annotated):
                write_annotated_video(path, annotated, shown)
            print(annotated)
        except VideoError as error:
            broken.append(str(error))
    print(f"{rows}: {num_detections} detections at {num_key_frames} key frames")
    if broken:
        sys.exit("\n  ".join([f"{len(broken)} of {len(args.videos)} videos are broken:", *broken]))


if __name__ == "__main__":
    with one_line_errors():
        main(parser().parse_args())
