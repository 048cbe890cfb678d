"""The task of action detection."""

import os
import re
from pathlib import Path

from vdet_ssl.config import CfgNode
from vdet_ssl.data.build import load_test_set
from vdet_ssl.data.datasets import action_names
from vdet_ssl.data.mappers import KeyFrameMapper
from vdet_ssl.data.records import Mapper
from vdet_ssl.engine.trainer import VideoTrainer
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
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> AVAEvaluator:
        records = load_test_set(cfg, dataset_name)
        folder = re.sub(r"[^\w.-]+", "_", Path(dataset_name).stem if "/" in dataset_name else dataset_name)
        return AVAEvaluator(
            records,
            class_names=action_names(dataset_name),
            capacity=cfg.TEST.AVA_CAPACITY,
            output_dir=os.path.join(cfg.OUTPUT_DIR, "inference", folder),
        )
