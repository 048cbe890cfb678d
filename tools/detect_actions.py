#!/usr/bin/env python3
"""Run a trained action detector on videos that have no annotations.

    tools/detect_actions.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --videos a.mp4 b.mp4 \\
        --proposals people.csv --label-map actions.pbtxt --output output/mine MODEL.WEIGHTS output/ava/model_final.pth

`--proposals` are people at the key frames that are wanted, as datasets/prepare_proposals.py writes them; with
`--whole-frame` there is one box, the picture, at every second instead.  Written are detections.csv (AVA's result
format) and an annotated copy of each video.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_context
from tqdm import tqdm

from vdet_ssl.checkpoint import CheckpointError, VideoCheckpointer
from vdet_ssl.config import ConfigError, load_cfg
from vdet_ssl.data.ava_csv import key_frame_id, read_boxes, read_label_map, write_boxes
from vdet_ssl.data.build import build_test_loader
from vdet_ssl.data.datasets.ava_proposals import add_proposals
from vdet_ssl.data.decode import VideoError, probe
from vdet_ssl.engine import VideoTrainer
from vdet_ssl.evaluation.ava_evaluator import boxes_and_scores, detections_table
from vdet_ssl.evaluation.visualization import key_frames_of_table, write_annotated_video


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


def whole_frame_records(videos):
    """Return a record for every second of each video, with the picture as the one person in it."""
    records = []
    for path in videos:
        for second in range(max(int(probe(path).duration_s), 1)):
            people = {
                "proposal_boxes": np.array([[0, 0, 1, 1]], np.float32),
                "proposal_scores": np.ones(1, np.float32),
            }
            records.append({**_record(path, str(second)), **people})
    return records


def proposal_records(videos, proposals):
    """Return a record for every key frame of each video that the proposals name."""
    paths = {path.stem: path for path in videos}
    frames = read_boxes(proposals).key_frames
    records = [_record(paths[video_id], timestamp) for video_id, timestamp in frames if video_id in paths]
    without = set(paths) - {record["video_id"] for record in records}
    if without:
        raise ConfigError(f"{proposals} has no people in {', '.join(sorted(without))}; it names {frames[:3]} ...")
    add_proposals(records, proposals)
    return sorted(records, key=lambda record: key_frame_id(record["video_id"], record["timestamp"]))


def _record(path, timestamp):
    return {
        "file_name": str(path),
        "video_id": path.stem,
        "timestamp": timestamp,
        "timestamp_s": float(timestamp),
        "start_s": 0.0,
    }


def build_detector(cfg):
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("give the detector's checkpoint: MODEL.WEIGHTS model_final.pth")
    model = VideoTrainer.build_model(cfg)
    VideoCheckpointer(model, min_coverage=1.0, whole_model=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    return model


def detect(cfg, records, action_ids):
    """Return the BoxTable of all detections."""
    DatasetCatalog.register("videos_to_detect", lambda: records)
    MetadataCatalog.get("videos_to_detect").set(evaluator_type="ava")
    model, found = build_detector(cfg), {}
    with inference_context(model), torch.no_grad():
        for batch in tqdm(build_test_loader(cfg, "videos_to_detect"), unit="batch"):
            for sample, output in zip(batch, model(batch), strict=True):
                found[sample["video_id"], sample["timestamp"]] = boxes_and_scores(output["instances"])
    return detections_table(found, action_ids)


def main():
    args = parse_arguments()
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
    records = whole_frame_records(args.videos) if args.whole_frame else proposal_records(args.videos, args.proposals)
    table = detect(cfg, records, list(class_names))
    args.output.mkdir(parents=True, exist_ok=True)
    write_boxes(args.output / "detections.csv", table)
    print(f"{args.output / 'detections.csv'}: {len(table)} detections at {len(table.key_frames)} key frames")
    for path in args.videos:
        shown = key_frames_of_table(table, class_names, path.stem, top_k=args.top_k, min_score=args.min_score)
        write_annotated_video(path, args.output / f"{path.stem}_annotated.mp4", shown)
        print(args.output / f"{path.stem}_annotated.mp4")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, CheckpointError, VideoError) as e:
        sys.exit(f"{type(e).__name__}: {e}")
