"""BYOL for any number of clips (section 3.2, B.1)."""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from vdet_ssl.config import CfgNode
from vdet_ssl.layers import MLP, momentum_copy, momentum_schedule, norm_factory, update_ema
from vdet_ssl.losses import negative_cosine
from vdet_ssl.modeling.ssl.base import LossPart, SSLMethod, others
from vdet_ssl.modeling.ssl.encoder import Encoder
from vdet_ssl.modeling.ssl.monitor import monitor_embeddings


@META_ARCH_REGISTRY.register()
class BYOL(SSLMethod):
    """Each clip's prediction is drawn to the momentum encoder's embeddings of the other clips: eq. (2).

    There is a part for each clip, the query; memory does not grow with their number, as nothing is back-propagated
    into the targets.

    Args:
        encoder: normalised clips (B, 3, T, H, W) -> embeddings (B, d); the momentum encoder starts as its copy.
        predictor: (B, d) -> (B, d).
        momentum: progress -> m.
        loss_weight: factor on eq. (2).
    """

    @configurable
    def __init__(
        self,
        *,
        encoder: Encoder,
        predictor: nn.Module,
        momentum: Callable[[float], float],
        loss_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.predictor = predictor
        self.momentum_encoder = momentum_copy(encoder)
        self.momentum = momentum
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        c = cfg.MODEL.BYOL
        norm = norm_factory(c.MLP_NORM, cfg.MODEL.BN)
        return {
            **super().from_config(cfg),
            "encoder": Encoder(cfg, c),
            "predictor": MLP(c.EMBED_DIM, c.HIDDEN_DIM, c.EMBED_DIM, c.PREDICTOR_LAYERS, norm),
            "momentum": momentum_schedule(c.MOMENTUM, c.ANNEAL_MOMENTUM),
            "loss_weight": c.LOSS_WEIGHT,
        }

    @torch.no_grad()
    def split(self, clips: list[torch.Tensor]) -> list[LossPart]:
        keys = torch.stack([self.momentum_encoder(self.normalize(clip)) for clip in clips])
        return [LossPart([clip], others(keys, i), 1 / len(clips)) for i, clip in enumerate(clips)]

    def losses(self, part: LossPart) -> dict[str, torch.Tensor]:
        embeddings = self.encoder(self.normalize(part.clips[0]))
        monitor_embeddings(embeddings, part.targets)
        return {"loss_byol": self.loss_weight * negative_cosine(self.predictor(embeddings), part.targets)}

    def after_step(self, progress: float) -> None:
        update_ema(self.momentum_encoder, self.encoder, self.momentum(progress))
