#!/usr/bin/env python3
"""Run a trained action detector on videos that have no annotations.

    tools/detect_actions.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --videos a.mp4 b.mp4 \\
        --proposals people.csv --label-map actions.pbtxt --output output/mine MODEL.WEIGHTS output/ava/model_final.pth

`--proposals` are people at the key frames that are wanted, as datasets/prepare_proposals.py writes them; with
`--whole-frame` there is one box, the picture, at every second instead.  Written are detections.csv (AVA's result
format) and an annotated copy of each video; a broken one costs the others nothing, and is named at the end.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_context
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from vdet_ssl.checkpoint import VideoCheckpointer
from vdet_ssl.config import load_cfg
from vdet_ssl.data.build import build_test_loader
from vdet_ssl.data.datasets.proposals import proposal_fields, read_proposals
from vdet_ssl.data.video.reader import probe
from vdet_ssl.engine import VideoTrainer
from vdet_ssl.errors import CheckpointError, ConfigError, VideoError
from vdet_ssl.evaluation.ava_evaluator import boxes_and_scores, detections_table
from vdet_ssl.structures.ava_csv import read_label_map, write_boxes
from vdet_ssl.visualization.annotated_video import key_frames_of_table, write_annotated_video


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--videos", nargs="+", required=True, type=Path)
    people = parser.add_mutually_exclusive_group(required=True)
    people.add_argument("--proposals", help="csv or pkl of people")
    people.add_argument("--whole-frame", action="store_true", help="one box: the picture, every second")
    parser.add_argument("--label-map", required=True, help="pbtxt of the actions that the detector was trained on")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--top-k", type=int, default=3, help="actions shown of a person")
    parser.add_argument("--min-score", type=float, default=0.3, help="actions below are not shown")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the config")
    return parser.parse_args()


def whole_frame_records(path):
    """Return a record for every second of a video, with the picture as the one person in it."""
    picture = np.array([[0, 0, 1, 1, 1]], np.float32)
    return [_record(path, second, picture) for second in range(max(int(probe(path).duration_s), 1))]


def proposal_records(videos, proposals):
    """Return, for each video, a record for every one of its key frames that the proposals name, in order of time.

    Videos that they do not name have none; ConfigError if that is so for all.
    """
    paths = {path.stem: path for path in videos}
    records = {path: [] for path in videos}
    people = read_proposals(proposals)
    for (video_id, microseconds), found in sorted(people.items(), key=lambda item: item[0]):
        if video_id in paths:
            path = paths[video_id]
            records[path].append(_record(path, microseconds / 1e6, found))
    if not any(records.values()):
        (name, microseconds), *_ = [*people, ("nothing", 0)]
        raise ConfigError(
            f"{proposals} has no people in any of --videos; it has {name} at {microseconds / 1e6:g} s, say"
        )
    return records


def _record(path, time_s, people):
    return {
        "file_name": str(path),
        "video_id": path.stem,
        "timestamp": f"{time_s:.10g}",
        "timestamp_s": float(time_s),
        "start_s": 0.0,
        **proposal_fields(people),
    }


def build_detector(cfg):
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("give the detector's checkpoint: MODEL.WEIGHTS model_final.pth")
    model = VideoTrainer.build_model(cfg)
    VideoCheckpointer(model, min_coverage=1.0, whole_model=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    return model


def detect(cfg, model, records):
    """Return what the detector finds in one video: (video id, timestamp) -> boxes and scores."""
    name = records[0]["file_name"]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(evaluator_type="ava")
    found = {}
    with inference_context(model), torch.no_grad():
        for batch in tqdm(build_test_loader(cfg, name), unit="batch", desc=records[0]["video_id"]):
            for sample, output in zip(batch, model(batch), strict=True):
                found[sample["video_id"], sample["timestamp"]] = boxes_and_scores(output["instances"])
    return found


def main():
    args = parse_arguments()
    setup_logger(name="vdet_ssl")
    cfg = load_cfg(args.config_file, args.opts)
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    class_names = read_label_map(args.label_map)
    if len(class_names) != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        raise ConfigError(
            f"{args.label_map} has {len(class_names)} actions, MODEL.ROI_HEADS.NUM_CLASSES is "
            f"{cfg.MODEL.ROI_HEADS.NUM_CLASSES}"
        )
    if len({path.stem for path in args.videos}) < len(args.videos):
        raise ConfigError("two of --videos have the same name; results could not be told apart")
    records = None if args.whole_frame else proposal_records(args.videos, args.proposals)
    model = build_detector(cfg)
    args.output.mkdir(parents=True, exist_ok=True)
    found, broken = {}, []
    for path in args.videos:
        try:
            records_here = whole_frame_records(path) if args.whole_frame else records[path]
            if not records_here:
                print(f"{path}: no people in {args.proposals}, nothing to detect")
                continue
            found_here = detect(cfg, model, records_here)
            found |= found_here
            table = detections_table(found_here, list(class_names))
            shown = key_frames_of_table(table, class_names, path.stem, top_k=args.top_k, min_score=args.min_score)
            write_annotated_video(path, args.output / f"{path.stem}_annotated.mp4", shown)
            print(args.output / f"{path.stem}_annotated.mp4")
        except VideoError as error:
            broken.append(str(error))
    table = detections_table(found, list(class_names))
    write_boxes(args.output / "detections.csv", table)
    print(f"{args.output / 'detections.csv'}: {len(table)} detections at {len(table.key_frames)} key frames")
    if broken:
        sys.exit("\n  ".join([f"{len(broken)} of {len(args.videos)} videos are broken:", *broken]))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, CheckpointError) as e:
        sys.exit(f"{type(e).__name__}: {e}")
