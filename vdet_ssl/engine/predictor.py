"""A trained action detector, ready to be asked about a video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import inference_context
from tqdm import tqdm

from vdet_ssl.checkpoint import load_whole_model
from vdet_ssl.config import check_values, load_cfg
from vdet_ssl.data.build import build_test_loader
from vdet_ssl.data.datasets.proposals import proposal_fields, read_proposals
from vdet_ssl.data.records import Record
from vdet_ssl.data.video.reader import probe
from vdet_ssl.engine.detection_trainer import DetectionTrainer
from vdet_ssl.engine.setup import choose_device
from vdet_ssl.engine.trainer import trainer_class
from vdet_ssl.errors import ConfigError, DataError
from vdet_ssl.evaluation.ava_evaluator import boxes_and_scores, detections_table
from vdet_ssl.structures.ava_csv import BoxTable
from vdet_ssl.structures.label_map import read_label_map
from vdet_ssl.visualization.annotated_video import KeyFrame, key_frames_of_table

_MICROSECONDS = 1e6


class ActionPredictor:
    """What the people in a video do, by a trained detector.

        predictor = ActionPredictor("output/mine/config.yaml", "output/mine/model_final.pth", label_map="actions.pbtxt")
        for key_frame in predictor("new.mp4", proposals="proposals_new.csv"):
            print(key_frame.timestamp_s, key_frame.boxes, key_frame.actions)

    Attributes:
        class_names: dict, action id -> name, in the order of the detector's scores.

    Args:
        config_file: the config.yaml that training saved in its OUTPUT_DIR.
        weights: the checkpoint; default: MODEL.WEIGHTS.
        label_map: pbtxt of the actions that the detector was trained on.
        overrides: [KEY, value, ...].
    Raises:
        UserError: config, checkpoint and label map do not fit together.
    """

    def __init__(
        self, config_file: str | Path, weights: str | Path = "", *, label_map: str | Path, overrides: Sequence[Any] = ()
    ) -> None:
        self.cfg = load_cfg(str(config_file), [*overrides, *(["MODEL.WEIGHTS", str(weights)] if weights else [])])
        check_values(self.cfg)
        choose_device(self.cfg)
        task = trainer_class(self.cfg)
        if not issubclass(task, DetectionTrainer):
            raise ConfigError(
                f"{config_file} is of {self.cfg.MODEL.META_ARCHITECTURE}, which is not an action detector"
            )
        self.class_names = read_label_map(label_map)
        num_classes = self.cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if len(self.class_names) != num_classes:
            raise ConfigError(
                f"{label_map} has {len(self.class_names)} actions, MODEL.ROI_HEADS.NUM_CLASSES is {num_classes}"
            )
        if not self.cfg.MODEL.WEIGHTS:
            raise ConfigError("give the detector's checkpoint: MODEL.WEIGHTS model_final.pth")
        self.mapper = task.build_mapper(self.cfg, is_train=False)
        self.model = task.build_model(self.cfg)
        load_whole_model(self.model, self.cfg.MODEL.WEIGHTS)

    def __call__(self, video: str | Path, proposals: str | Path | None = None) -> list[KeyFrame]:
        """Detect the actions in one video.

        Args:
            video: path.
            proposals: csv or pkl of people at the key frames that are wanted (see `read_proposals`), named by the
                video's name without extension; None: one box, the whole frame, at every second.
        Returns:
            the key frames in order of time, each with boxes (XYXY in 0..1) and for each box its actions as
            (name, score in 0..1), the most likely first.
        Raises:
            DataError: the proposals say nothing about this video; VideoError: it cannot be decoded.
        """
        video = Path(video)
        if proposals is None:
            records = whole_frame_records(video)
        else:
            records = proposal_records([video], proposals)[video]
        table = self.table(self.detect(records))
        return key_frames_of_table(table, self.class_names, video.stem, top_k=len(self.class_names), min_score=0.0)

    def table(self, detections: dict) -> BoxTable:
        """Return what `detect` does as a table, a row for each box and action."""
        return detections_table(detections, list(self.class_names))

    def detect(self, records: Sequence[Record]) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """Return the detections at the key frames of one video: (video id, timestamp) -> boxes and scores.

        Boxes are float64 (N, 4), XYXY in 0..1, scores float32 (N, number of classes) in 0..1.

        Args:
            records: of `whole_frame_records` or `proposal_records`.
        """
        detections = {}
        loader = build_test_loader(self.cfg, records, mapper=self.mapper)
        with inference_context(self.model), torch.no_grad():
            for batch in tqdm(loader, unit="batch", desc=records[0]["video_id"]):
                for sample, output in zip(batch, self.model(batch), strict=True):
                    detections[sample["video_id"], sample["timestamp"]] = boxes_and_scores(output["instances"])
        return detections


def whole_frame_records(path: Path) -> list[Record]:
    """Return a record for every second of a video, with the whole frame as its one proposal."""
    whole_frame = np.array([[0, 0, 1, 1, 1]], np.float32)
    return [_record(path, float(second), whole_frame) for second in range(max(int(probe(path).duration_s), 1))]


def proposal_records(videos: Sequence[Path], proposals: str | Path) -> dict[Path, list[Record]]:
    """Return, for each video, a record for every one of its key frames that the proposals name, in order of time.

    Raises:
        DataError: they name none of the videos (a few that they do not name have no records).
    """
    paths = {path.stem: path for path in videos}
    records: dict[Path, list[Record]] = {path: [] for path in videos}
    boxes_of = read_proposals(str(proposals))
    for (video_id, microseconds), boxes in sorted(boxes_of.items(), key=lambda item: item[0]):
        if video_id in paths:
            path = paths[video_id]
            records[path].append(_record(path, microseconds / _MICROSECONDS, boxes))
    if not any(records.values()):
        named = next((f"{name} at {us / _MICROSECONDS:g} s" for name, us in boxes_of), "nothing")
        raise DataError(f"{proposals} says nothing about {', '.join(paths)}; it has {named}, say")
    return records


def _record(path: Path, time_s: float, proposals: np.ndarray) -> Record:
    return {
        "file_name": str(path),
        "video_id": path.stem,
        "timestamp": f"{time_s:.10g}",
        "timestamp_s": time_s,
        "start_s": 0.0,
        **proposal_fields(proposals),
    }
