"""The task of action detection."""

import os
import re
from pathlib import Path

from vdet_ssl.config import CfgNode
from vdet_ssl.data.build import load_datasets, load_test_set
from vdet_ssl.data.datasets import action_names
from vdet_ssl.data.datasets.key_frame_times import check_key_frame_times
from vdet_ssl.data.loading.loaders import EvaluationLoader, TrainLoader
from vdet_ssl.data.mappers import KeyFrameMapper
from vdet_ssl.data.records import Mapper, Records
from vdet_ssl.engine.trainer import VideoTrainer
from vdet_ssl.errors import ConfigError
from vdet_ssl.evaluation.ava_evaluator import AVAEvaluator
from vdet_ssl.modeling.meta_arch import ActionDetector


class DetectionTrainer(VideoTrainer):
    """Action detection at key frames (B.3), judged by AVA's mAP."""

    architectures = (ActionDetector,)
    data_kind = "key_frames"
    num_classes_key = "MODEL.ROI_HEADS.NUM_CLASSES"

    @classmethod
    def build_mapper(cls, cfg: CfgNode, is_train: bool) -> Mapper:
        return KeyFrameMapper(cfg, is_train)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainLoader:
        if cfg.MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS:
            for name, records in load_datasets(cfg, "TRAIN").items():
                _check_proposals(records, name, "MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS", "TRAIN")
        return super().build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> EvaluationLoader:
        _check_proposals(load_test_set(cfg, dataset_name), dataset_name, "evaluation", "TEST")
        return super().build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> AVAEvaluator:
        records = load_test_set(cfg, dataset_name)
        check_key_frame_times(dataset_name, records)
        folder = re.sub(r"[^\w.-]+", "_", Path(dataset_name).stem if "/" in dataset_name else dataset_name)
        return AVAEvaluator(
            records,
            class_names=action_names(dataset_name),
            capacity=cfg.TEST.AVA_CAPACITY,
            output_dir=os.path.join(cfg.OUTPUT_DIR, "inference", folder),
        )


def _check_proposals(records: Records, name: str, what: str, split: str) -> None:
    """Raise ConfigError if the records of a data set have no proposals."""
    if "proposal_boxes" not in records[0]:
        raise ConfigError(
            f"{name}: {what} needs proposals, the boxes of detected people: set MODEL.LOAD_PROPOSALS to True and "
            f"DATASETS.PROPOSAL_FILES_{split} to one file for each of DATASETS.{split}"
        )
