"""AVA's metric as a detectron2 evaluator."""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from numpy.typing import NDArray

from vdet_ssl.data.records import Record, Records
from vdet_ssl.errors import DataError
from vdet_ssl.files import atomic_write
from vdet_ssl.metrics.ava import evaluate_parts
from vdet_ssl.metrics.ava_result import AVAResult
from vdet_ssl.structures.ava_csv import BoxTable, write_parts
from vdet_ssl.structures.ground_truth import ground_truth_table

# Digits written, and evaluated: the file gives the same figure as the evaluator.
_BOX_DECIMALS, _SCORE_DECIMALS = 5, 8

_ROWS_AT_ONCE = 2**21  # detections that are evaluated and written together
_MANY_DETECTIONS = 20_000_000

Detections = dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float32]]]
"""(video id, timestamp) of a key frame -> boxes and scores, see `boxes_and_scores`."""

logger = logging.getLogger(__name__)


class AVAEvaluator(DatasetEvaluator):
    """Mean average precision at IoU 0.5 of actions in boxes, in 0..1 as the official evaluator's (not in percent).

    `evaluate` writes to the output folder "detections.csv" in the official format, which tools/evaluate_ava.py reads,
    and "results.json", what that tool writes.
    """

    def __init__(
        self, records: Records, *, class_names: Mapping[int, str], capacity: int | None, output_dir: str
    ) -> None:
        """Make an evaluator of one data set.

        Args:
            records: the ground truth, see `vdet_ssl.structures.ground_truth`.
            class_names: action id -> name, in the order of the classes.
            capacity: (box, class) detections kept of a key frame; 0 or None: all.
            output_dir: folder to write to.
        """
        self.records = records
        self.class_names = class_names
        self.capacity = capacity
        self.output_dir = output_dir
        self._say_size()
        self.reset()

    def _say_size(self) -> None:
        """Say before an evaluation starts what it will take, where that is much."""
        records = (self.records[i] for i in range(len(self.records)))
        num_boxes = sum(len(record.get("proposal_boxes", ())) for record in records)
        num_rows = num_boxes * len(self.class_names)
        if num_rows > _MANY_DETECTIONS:
            logger.warning(
                f"The evaluation has up to {num_boxes} proposals x {len(self.class_names)} classes = {num_rows} detections: "
                f"some {4 * num_rows / 2**30:.1f} GiB of memory, and {60 * num_rows / 2**30:.0f} GiB for "
                f"{self.output_dir}/detections.csv; a higher MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST makes them fewer"
            )

    def reset(self) -> None:
        self._detections: Detections = {}

    def process(self, inputs: Sequence[Record], outputs: Sequence[dict[str, Any]]) -> None:
        """Take what the detector says about key frames; one that comes again (padding) counts once.

        Args:
            inputs: have "video_id" and "timestamp".
            outputs: have "instances": pred_boxes (Boxes XYXY, pixels of a frame of `image_size`) and scores (N, number
                of classes).
        """
        for sample, output in zip(inputs, outputs, strict=True):
            self._detections[sample["video_id"], sample["timestamp"]] = boxes_and_scores(output["instances"])

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return {"AVA": {"mAP": x, "AP/<class>": x or nan for a class without ground truth}}; {} but in process 0."""
        gathered = comm.gather(self._detections, dst=0)
        if not comm.is_main_process():
            return {}
        detections = {frame: result for part in gathered for frame, result in part.items()}
        action_ids = list(self.class_names)
        ground_truth = ground_truth_table((self.records[i] for i in range(len(self.records))), action_ids)
        _log_missing(ground_truth, detections)
        result = evaluate_parts(
            ground_truth, detections_tables(detections, action_ids), self.class_names, self.capacity
        )
        logger.info(f"AVA, {result.describe()}:\n{result.table()}")
        self._write(detections, result)
        per_class = {f"AP/{name}": float("nan") if ap is None else ap for name, ap in result.ap.items()}
        return OrderedDict(AVA={"mAP": result.mean_ap, **per_class})

    def _write(self, detections: Detections, result: AVAResult) -> None:
        os.makedirs(self.output_dir, exist_ok=True)
        tables = detections_tables(detections, list(self.class_names))
        write_parts(os.path.join(self.output_dir, "detections.csv"), tables)
        with atomic_write(os.path.join(self.output_dir, "results.json")) as file:
            json.dump(result.as_dict(), file, indent=1)


def _log_missing(ground_truth: BoxTable, detections: Detections) -> None:
    missing = [",".join(frame) for frame in ground_truth.key_frames if frame not in detections]
    if missing:
        logger.warning(
            f"The detector was not run on {len(missing)} of {len(ground_truth.key_frames)} key frames of the ground "
            f"truth, like {missing[:3]}; they count as not found"
        )


def boxes_and_scores(instances: Instances) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """A detector's Instances -> boxes, float64 (N, 4) XYXY in 0..1, and scores, float32 (N, number of classes)."""
    instances = instances.to("cpu")
    height, width = instances.image_size
    boxes = instances.pred_boxes.tensor.double().numpy() / [width, height, width, height]
    return boxes.round(_BOX_DECIMALS), instances.scores.numpy()


def detections_tables(
    detections: Detections, action_ids: Sequence[int], max_rows: int = _ROWS_AT_ONCE
) -> Iterator[BoxTable]:
    """Yield `detections_table` in parts, so that never more than one of them is in memory.

    Args:
        max_rows: of a part that has more than one key frame.
    """
    part: Detections = {}
    num_rows = 0
    for frame in sorted(detections):
        if part and num_rows + detections[frame][1].size > max_rows:
            yield detections_table(part, action_ids)
            part, num_rows = {}, 0
        part[frame] = detections[frame]
        num_rows += detections[frame][1].size
    yield detections_table(part, action_ids)


def detections_table(detections: Detections, action_ids: Sequence[int]) -> BoxTable:
    """Make a BoxTable, one row for each box and class, in an order that workers do not change.

    Args:
        action_ids: of the classes.
    Raises:
        DataError: the scores are not of that many classes.
    """
    key_frames = sorted(detections)
    boxes = np.concatenate([np.zeros((0, 4)), *(detections[frame][0] for frame in key_frames)])
    scores = [detections[frame][1] for frame in key_frames]
    num_classes = len(action_ids)
    wrong = {s.shape[1] for s in scores} - {num_classes}
    if wrong:
        raise DataError(f"The detector gives scores for {wrong.pop()} classes, the data set's list has {num_classes}")
    num_rows = [s.size for s in scores]
    return BoxTable(
        key_frames=key_frames,
        key=np.repeat(np.arange(len(key_frames)), num_rows),
        boxes=np.repeat(boxes, num_classes, axis=0),
        action_id=np.tile(np.array(action_ids, np.int64), len(boxes)),
        score=np.concatenate([np.zeros(0), *(s.ravel() for s in scores)]).round(_SCORE_DECIMALS),
    )
