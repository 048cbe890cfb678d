"""The task of action detection."""

from vdet_ssl.config import CfgNode
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
        return AVAEvaluator(cfg, dataset_name)
