"""The RoI head of the action detector (B.3)."""

from itertools import pairwise
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.nn import functional as F

from vdet_ssl.config import CfgNode
from vdet_ssl.errors import ConfigError


@ROI_HEADS_REGISTRY.register()
class ActionROIHeads(nn.Module):
    """What is done in given boxes: any number of classes for each, with a score of its own (B.3).

    A box is repeated along time, RoIAlign is applied to the map of each frame, the results are averaged over time and
    max-pooled over space; then dropout, a linear layer and a sigmoid for each class.  RoIAlign is linear in the
    features, so averaging them over time first gives the same and takes 1/T of the work.

    In training the boxes are those of the ground truth and, if wanted, proposals.  A proposal has the labels of the
    ground-truth box it overlaps most, if that is enough for `proposal_matcher`; without such a box it is background as
    in Faster R-CNN, with none of the actions.

    Args:
        in_features: names of the backbone's features to take.
        in_channels: of each of these.
        box_pooler: takes one map for each of them, pooled along time.
        num_classes: actions.
        dropout: probability.
        train_on_proposals: train on proposals beside the ground truth.
        test_score_thresh: only proposals with a higher score are taken in inference.
        proposal_matcher, train_score_thresh: where train_on_proposals: the matcher, whose label -1 leaves a proposal out,
            and the score over which proposals are taken.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        in_channels: int,
        box_pooler: ROIPooler,
        num_classes: int,
        dropout: float,
        train_on_proposals: bool,
        test_score_thresh: float,
        proposal_matcher: Matcher | None = None,
        train_score_thresh: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.box_pooler = box_pooler
        self.num_classes = num_classes
        self.train_on_proposals = train_on_proposals
        self.proposal_matcher = proposal_matcher
        self.train_score_thresh = train_score_thresh
        self.test_score_thresh = test_score_thresh
        self.dropout = nn.Dropout(dropout)
        self.cls_score = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.zeros_(self.cls_score.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        heads, box_head = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
        if not set(heads.IN_FEATURES) <= set(input_shape):
            raise ConfigError(
                f"MODEL.ROI_HEADS.IN_FEATURES {heads.IN_FEATURES}: take some of {list(input_shape)}, which the backbone gives."
            )
        shapes = [input_shape[name] for name in heads.IN_FEATURES]
        if len({shape.channels for shape in shapes}) != 1:
            raise ConfigError(f"MODEL.ROI_HEADS.IN_FEATURES {heads.IN_FEATURES} need the same number of channels.")
        training: dict[str, Any] = {}
        if heads.TRAIN_ON_PROPOSALS:
            training = {
                "proposal_matcher": _proposal_matcher(cfg),
                "train_score_thresh": heads.PROPOSAL_SCORE_THRESH_TRAIN,
            }
        return {
            "in_features": heads.IN_FEATURES,
            "in_channels": shapes[0].channels,
            "box_pooler": ROIPooler(
                output_size=box_head.POOLER_RESOLUTION,
                scales=[1 / shape.stride for shape in shapes],
                sampling_ratio=box_head.POOLER_SAMPLING_RATIO,
                pooler_type=box_head.POOLER_TYPE,
            ),
            "num_classes": heads.NUM_CLASSES,
            "dropout": box_head.DROPOUT,
            "train_on_proposals": heads.TRAIN_ON_PROPOSALS,
            "test_score_thresh": heads.PROPOSAL_SCORE_THRESH_TEST,
            **training,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances] | None,
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """As detectron2's ROI heads: instances and losses, of which training has the latter, inference the former.

        Args:
            images: not looked at.
            features: name -> float (B, C, T, H, W).
            proposals: B Instances with proposal_boxes (XYXY, absolute pixels of the clip) and scores; None where
                training does without.
            targets: in training, B Instances with gt_boxes and gt_classes, float (N, num_classes) of 0 and 1.
        Returns:
            inference: B Instances with pred_boxes, those of the proposals over the threshold, and scores, float32
            (N, num_classes) in 0..1; and {}.  Training: [] and {"loss_action": mean binary cross-entropy}.
        Raises:
            ConfigError: there are no proposals where they are needed; the classes are not as many as the head's.
        """
        self._check(proposals, targets)
        if self.training:
            assert targets is not None
            used = proposals or [] if self.train_on_proposals else [None] * len(targets)
            boxes, labels = zip(*map(self.label_boxes, used, targets), strict=True)
            return [], self.losses(self.predict(features, list(boxes)), torch.cat(labels))
        assert proposals is not None  # _check has seen to it
        chosen = [p[p.scores > self.test_score_thresh] for p in proposals]
        pred_boxes = [p.proposal_boxes.clone() for p in chosen]
        scores = self.predict(features, pred_boxes).float().sigmoid().split([len(b) for b in pred_boxes])
        return [
            Instances(p.image_size, pred_boxes=b, scores=s) for p, b, s in zip(chosen, pred_boxes, scores, strict=True)
        ], {}

    def predict(self, features: dict[str, torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        """Logits (M, num_classes) of the M boxes in B Boxes (XYXY, absolute pixels of the clip)."""
        pooled = self.box_pooler([self.pool_time(features[name]) for name in self.in_features], boxes)
        return self.cls_score(self.dropout(pooled.amax(dim=(2, 3))))

    def pool_time(self, features: torch.Tensor) -> torch.Tensor:
        """float (B, C, T, H, W) -> (B, C, H, W), the mean over time."""
        return features.mean(dim=2)

    @torch.no_grad()
    def label_boxes(self, proposals: Instances | None, targets: Instances) -> tuple[Boxes, torch.Tensor]:
        """Boxes to train on in one clip and their labels, float (N, num_classes); `proposals` may be None."""
        if proposals is None or self.proposal_matcher is None:
            return targets.gt_boxes, targets.gt_classes
        boxes = proposals.proposal_boxes[proposals.scores > self.train_score_thresh]
        matches, matched = self.proposal_matcher(pairwise_iou(targets.gt_boxes, boxes))
        labels = targets.gt_classes.new_zeros(len(boxes), self.num_classes)
        labels[matched == 1] = targets.gt_classes[matches[matched == 1]]
        kept = matched >= 0
        return Boxes.cat([targets.gt_boxes, boxes[kept]]), torch.cat([targets.gt_classes, labels[kept]])

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean binary cross-entropy over boxes and classes; 0, with a graph, if there are no boxes."""
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum")
        with torch.no_grad():
            scores, storage = logits.float().sigmoid(), get_event_storage()
            storage.put_scalar("action_roi_heads/num_boxes", len(logits))
            for name, chosen in [("positive_score", scores[labels == 1]), ("negative_score", scores[labels == 0])]:
                if len(chosen):
                    storage.put_scalar(f"action_roi_heads/{name}", chosen.mean().item())
        return {"loss_action": loss / max(logits.numel(), 1)}

    def _check(self, proposals: list[Instances] | None, targets: list[Instances] | None) -> None:
        if proposals is None and (self.train_on_proposals or not self.training):
            what, split = ("MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS", "TRAIN") if self.training else ("Inference", "TEST")
            raise ConfigError(
                f"{what} needs proposals, but the samples have none: set MODEL.LOAD_PROPOSALS to "
                f"True and DATASETS.PROPOSAL_FILES_{split} to the files that hold them."
            )
        for target in targets or []:
            if target.gt_classes.shape[1:] != (self.num_classes,):
                raise ConfigError(
                    f"The ground truth has labels of shape {tuple(target.gt_classes.shape)}, boxes x classes, but "
                    f"MODEL.ROI_HEADS.NUM_CLASSES is {self.num_classes}: set it to the number of classes in the data "
                    "set's list."
                )


def _proposal_matcher(cfg: CfgNode) -> Matcher:
    thresholds, labels = cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS, cfg.MODEL.ROI_HEADS.IOU_LABELS
    rises = all(lower < higher for lower, higher in pairwise((0, *thresholds)))
    if not (thresholds and rises and len(labels) == len(thresholds) + 1):
        raise ConfigError(
            f"MODEL.ROI_HEADS.IOU_THRESHOLDS {thresholds} with IOU_LABELS {labels}: the thresholds have to rise from above "
            "0, and there is one label more than thresholds"
        )
    return Matcher(thresholds, labels, allow_low_quality_matches=False)
