"""A task of its own: which of a few classes a video shows, with its head, loss, evaluator and keys."""

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.utils import comm
from torch import nn
from torch.nn import functional as F

from vdet_ssl.data.mappers import VideoMapper
from vdet_ssl.engine import VideoTrainer
from vdet_ssl.layers import ClipNormalizer


def add_config(cfg):
    cfg.MODEL.TOY = CN()
    cfg.MODEL.TOY.NUM_CLASSES = 2
    cfg.MODEL.TOY.LABEL_SMOOTHING = 0.1


@META_ARCH_REGISTRY.register()
class ToyClassifier(nn.Module):
    """Backbone, mean over time and space, linear; softmax cross-entropy with smoothed labels."""

    @configurable
    def __init__(self, *, backbone, num_classes, label_smoothing, normalizer):
        super().__init__()
        self.backbone = backbone
        self.normalizer = normalizer
        self.head = nn.Linear(backbone.output_shape()["res5"].channels, num_classes)
        self.label_smoothing = label_smoothing

    @classmethod
    def from_config(cls, cfg):
        return {
            "backbone": build_backbone(cfg),
            "num_classes": cfg.MODEL.TOY.NUM_CLASSES,
            "label_smoothing": cfg.MODEL.TOY.LABEL_SMOOTHING,
            "normalizer": ClipNormalizer(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD),
        }

    def forward(self, batched_inputs):
        clips = torch.stack([x["clips"][0] for x in batched_inputs]).to(self.head.weight.device)
        logits = self.head(self.backbone(self.normalizer(clips))["res5"].mean(dim=(2, 3, 4)))
        if not self.training:
            return [{"scores": scores} for scores in logits.softmax(dim=1)]
        labels = torch.tensor([x["label"] for x in batched_inputs], device=logits.device)
        return {"loss_cls": F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}


class Top1(DatasetEvaluator):
    """Percentage of videos whose highest score is that of their label."""

    def reset(self):
        self.hits = []

    def process(self, inputs, outputs):
        self.hits += [y["scores"].argmax().item() == x["label"] for x, y in zip(inputs, outputs, strict=True)]

    def evaluate(self):
        hits = [hit for part in comm.gather(self.hits) for hit in part]
        return {"toy": {"top1": 100 * sum(hits) / len(hits)}} if comm.is_main_process() else {}


class ToyTrainer(VideoTrainer):
    """The task: the tools find it by the model that it trains."""

    architectures = (ToyClassifier,)
    data_kind = "videos"
    num_classes_key = "MODEL.TOY.NUM_CLASSES"

    @classmethod
    def build_mapper(cls, cfg, is_train):
        return VideoMapper.for_classification(cfg, is_train)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return Top1()
