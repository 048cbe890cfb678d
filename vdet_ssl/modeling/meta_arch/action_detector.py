"""The action detector (B.3): what is done in given boxes around a key frame."""

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, Backbone, build_roi_heads
from detectron2.structures import ImageList, Instances
from torch import nn

from vdet_ssl.config import CfgNode
from vdet_ssl.layers import ClipNormalizer
from vdet_ssl.modeling.registered import build_backbone, find_registered


@META_ARCH_REGISTRY.register()
class ActionDetector(nn.Module):
    """Backbone over a clip, RoI heads over boxes that come from outside: ground truth or proposals (B.3).

    Args:
        backbone: over clips (N, 3, T, H, W).
        roi_heads: detectron2 ROI heads over its features.
        normalize: uint8 clips (T, H, W, 3) -> what the backbone takes, float (3, T, H, W).
    """

    @configurable
    def __init__(self, *, backbone: Backbone, roi_heads: nn.Module, normalize: ClipNormalizer) -> None:
        super().__init__()
        self.backbone = backbone
        self.roi_heads = roi_heads
        self.normalize = normalize

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        find_registered(cfg, "MODEL.ROI_HEADS.NAME", ROI_HEADS_REGISTRY)
        return {
            "backbone": backbone,
            "roi_heads": build_roi_heads(cfg, backbone.output_shape()),
            "normalize": ClipNormalizer(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD),
        }

    @property
    def device(self) -> torch.device:
        return self.normalize.mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor] | list[dict[str, Instances]]:
        """Return a loss dict in training, and in inference the detections of each clip.

        Args:
            batched_inputs: list[dict], each with
                "clip": uint8 (T, H, W, 3) RGB.  H and W may differ from clip to clip: training pads them (see
                    `preprocess`), inference takes such clips one by one, so that scores do not depend on the batch.
                "proposals": Instances with proposal_boxes (XYXY, absolute pixels of the clip) and scores (M,);
                    training may do without.
                "instances": in training, Instances with gt_boxes and gt_classes, float32 (N, num_classes) multi-hot.
                "height", "width": in inference, of the original frame.
        Returns:
            inference: list[dict], each with "instances": Instances of image_size (height, width) with pred_boxes (XYXY,
            absolute pixels of the original frame, clipped to it) and scores, float32 (N, num_classes) in 0..1.
        Raises:
            ConfigError: see the RoI heads.
        """
        if not self.training and len({x["clip"].shape for x in batched_inputs}) > 1:
            return [result for x in batched_inputs for result in self([x])]
        clips = self.preprocess(batched_inputs)
        features = self.backbone(clips.tensor)
        proposals = None
        if all("proposals" in x for x in batched_inputs):
            proposals = [x["proposals"].to(self.device) for x in batched_inputs]
        if self.training:
            targets = [x["instances"].to(self.device) for x in batched_inputs]
            return self.roi_heads(clips, features, proposals, targets)[1]
        detections, _ = self.roi_heads(clips, features, proposals)
        return [
            {"instances": rescale(instances, x["height"], x["width"])}
            for instances, x in zip(detections, batched_inputs, strict=True)
        ]

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise the clips, then pad them with zeros, on the right and below, to the largest: ImageList of float32
        (B, 3, T, H, W)."""
        clips = [self.normalize(x["clip"].to(self.device, non_blocking=True)) for x in batched_inputs]
        return ImageList.from_tensors(clips, self.backbone.size_divisibility)


def rescale(instances: Instances, height: int, width: int) -> Instances:
    """Instances with pred_boxes of a clip -> the same in a frame of this size, clipped to it.  All of them are kept."""
    boxes = instances.pred_boxes.clone()
    boxes.scale(width / instances.image_size[1], height / instances.image_size[0])
    boxes.clip((height, width))
    return Instances((height, width), pred_boxes=boxes, scores=instances.scores)
