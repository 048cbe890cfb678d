"""AVA's metric as a detectron2 evaluator."""

import json
import logging
import os
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
from detectron2.config import configurable
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from vdet_ssl.metrics.ava import evaluate
from vdet_ssl.structures.ava_csv import BoxTable, key_frame_id, read_boxes, read_excluded, read_label_map, write_boxes

# Digits written, and evaluated: the file gives the same figure as the evaluator.
_BOX_DECIMALS, _SCORE_DECIMALS = 5, 8

logger = logging.getLogger(__name__)


class AVAEvaluator(DatasetEvaluator):
    """Mean average precision at IoU 0.5 of actions in boxes, in 0..1 as the official evaluator's (not in percent).

    `evaluate` writes to the output folder "detections.csv" in the official format, which tools/evaluate_ava.py reads,
    and "results.json", what that tool writes.

    Args:
        description: AvaDescription; the ground truth is all its annotations, less the excluded key frames.
        capacity: (box, class) detections kept of a key frame; 0: all.
        output_dir: folder to write to.
    """

    @configurable
    def __init__(self, *, description, capacity, output_dir):
        self.description = description
        self.capacity = capacity
        self.output_dir = output_dir
        self.reset()

    @classmethod
    def from_config(cls, cfg, dataset_name):
        folder = re.sub(r"[^\w.-]+", "_", Path(dataset_name).stem if "/" in dataset_name else dataset_name)
        return {
            "description": MetadataCatalog.get(dataset_name).description,
            "capacity": cfg.TEST.AVA_CAPACITY,
            "output_dir": os.path.join(cfg.OUTPUT_DIR, "inference", folder),
        }

    def reset(self):
        self._found = {}

    def process(self, inputs, outputs):
        """Take what the detector says about key frames; one that comes again (padding) counts once.

        Args:
            inputs: list[dict] with "video_id" and "timestamp".
            outputs: list[dict] with "instances": pred_boxes (Boxes XYXY, pixels of a frame of `image_size`) and scores
                (N, number of classes).
        """
        for sample, output in zip(inputs, outputs, strict=True):
            self._found[sample["video_id"], sample["timestamp"]] = boxes_and_scores(output["instances"])

    def evaluate(self):
        """Return {"AVA": {"mAP": x, "AP/<class>": x or nan for a class without ground truth}}; {} but in process 0."""
        gathered = comm.gather(self._found, dst=0)
        if not comm.is_main_process():
            return {}
        found = {frame: result for part in gathered for frame, result in part.items()}
        names = read_label_map(self.description.label_map)
        truth, excluded = self._ground_truth()
        _log_missing(truth, found, excluded)
        detections = detections_table(found, list(names))
        result = evaluate(truth, detections, names, self.capacity, excluded)
        self._write(detections, result)
        logger.info(f"AVA, {result.describe()}:\n{result.table()}")
        per_class = {f"AP/{name}": float("nan") if ap is None else ap for name, ap in result.ap.items()}
        return OrderedDict(AVA={"mAP": result.mean_ap, **per_class})

    def _ground_truth(self):
        """Return the annotations and the key frames of theirs that do not count."""
        path = self.description.excluded_timestamps
        truth = read_boxes(self.description.annotations, score="person_id")
        excluded = read_excluded(path) if path else set()
        return truth, excluded | {
            key_frame_id(*frame) for frame in truth.key_frames if not self.description.is_key_frame(float(frame[1]))
        }

    def _write(self, detections, result):
        os.makedirs(self.output_dir, exist_ok=True)
        write_boxes(os.path.join(self.output_dir, "detections.csv"), detections)
        with open(os.path.join(self.output_dir, "results.json"), "w") as f:
            json.dump(result.as_dict(), f, indent=1)


def _log_missing(truth, found, excluded):
    evaluated = {key_frame_id(*frame) for frame in found} | excluded
    missing = [",".join(frame) for frame in truth.key_frames if key_frame_id(*frame) not in evaluated]
    if missing:
        logger.warning(
            f"The detector was not run on {len(missing)} of {len(truth.key_frames)} key frames of the ground truth, like "
            f"{missing[:3]}; they count as not found"
        )


def boxes_and_scores(instances):
    """A detector's Instances -> boxes, float64 (N, 4) XYXY in 0..1, and scores, float64 (N, number of classes)."""
    instances = instances.to("cpu")
    height, width = instances.image_size
    boxes = instances.pred_boxes.tensor.double().numpy() / [width, height, width, height]
    return boxes.round(_BOX_DECIMALS), instances.scores.double().numpy().round(_SCORE_DECIMALS)


def detections_table(found, action_ids):
    """Make a BoxTable, one row for each box and class, in an order that workers do not change.

    Args:
        found: dict, (video id, timestamp) -> `boxes_and_scores`.
        action_ids: list of the classes' ids.
    Raises:
        ValueError: the scores are not of that many classes.
    """
    key_frames = sorted(found)
    boxes = np.concatenate([np.zeros((0, 4)), *(found[frame][0] for frame in key_frames)])
    scores = [found[frame][1] for frame in key_frames]
    num_classes = len(action_ids)
    wrong = {s.shape[1] for s in scores} - {num_classes}
    if wrong:
        raise ValueError(f"The detector gives scores for {wrong.pop()} classes, the data set's list has {num_classes}")
    num_rows = [s.size for s in scores]
    return BoxTable(
        key_frames=key_frames,
        key=np.repeat(np.arange(len(key_frames)), num_rows),
        boxes=np.repeat(boxes, num_classes, axis=0),
        action_id=np.tile(np.array(action_ids, np.int64), len(boxes)),
        score=np.concatenate([np.zeros(0), *(s.ravel() for s in scores)]),
    )
