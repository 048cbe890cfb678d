"""The encoder f_theta of section 3.1."""

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import Backbone
from torch import nn

from vdet_ssl.config import CfgNode
from vdet_ssl.layers import MLP, norm_factory
from vdet_ssl.modeling.registered import build_backbone


class Encoder(nn.Module):
    """Backbone, average over time and space, projection MLP.

    Its weights are named `backbone.*`, what downstream tasks load, and `projector.*`.

    Args:
        backbone: detectron2 Backbone, float (B, 3, T, H, W) -> dict of feature maps (B, C, T', H', W'); the last is used.
        projector: nn.Module, (B, C) -> (B, d).
    """

    @configurable
    def __init__(self, *, backbone: Backbone, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    @classmethod
    def from_config(cls, cfg: CfgNode, method: CfgNode) -> dict[str, Any]:
        """`method` is the method's node of the config, for example cfg.MODEL.BYOL."""
        backbone = build_backbone(cfg)
        in_dim = list(backbone.output_shape().values())[-1].channels
        return {
            "backbone": backbone,
            "projector": MLP(
                in_dim,
                method.HIDDEN_DIM,
                method.EMBED_DIM,
                method.PROJECTOR_LAYERS,
                norm_factory(method.MLP_NORM, cfg.MODEL.BN),
            ),
        }

    def features(self, clip: torch.Tensor) -> torch.Tensor:
        """Normalised clips, float (B, 3, T, H, W) -> pooled features of the backbone (B, C)."""
        return list(self.backbone(clip).values())[-1].mean(dim=(2, 3, 4))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Normalised clips, float (B, 3, T, H, W) -> embeddings (B, d), not normalised."""
        return self.projector(self.features(clip))
