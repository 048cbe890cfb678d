"""SwAV for any number of clips (section 3.2, B.1)."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from vdet_ssl.config import CfgNode
from vdet_ssl.layers import FIFOQueue, gather, sinkhorn
from vdet_ssl.losses import in_float32, l2_normalize, swapped_prediction
from vdet_ssl.modeling.ssl.base import LossPart, SSLMethod, others
from vdet_ssl.modeling.ssl.encoder import Encoder
from vdet_ssl.modeling.ssl.monitor import monitor_embeddings, monitor_prototypes

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class SwAV(SSLMethod):
    """Each clip predicts the prototypes that Sinkhorn-Knopp assigns to the other clips of its video: eq. (3).

    Targets come from every clip, each clip's own from the batch of all processes.  All clips are in one graph, the one
    part.  Accumulating gradients does not widen the batch of the Sinkhorn step; a queue does.

    PySlowFast takes targets from the first two clips alone; for two clips the losses are the same.

    Args:
        encoder: normalised clips (B, 3, T, H, W) -> embeddings (B, d).
        prototypes: without bias, d -> K; its weight is normalised before each batch.
        frozen_until: progress in [0, 1) until which the prototypes are frozen (the first epoch in B.1).
        queue: of embeddings (rho, d), for the Sinkhorn step alone; None: none.
        queue_from: progress in [0, 1) from which the queue is filled; it is used once it is full.
        sinkhorn: scores of a batch (N, K) -> targets (N, K).
        temperature: alpha.
    """

    @configurable
    def __init__(
        self,
        *,
        encoder: Encoder,
        prototypes: nn.Linear,
        frozen_until: float,
        queue: FIFOQueue | None,
        queue_from: float,
        sinkhorn: Callable[[torch.Tensor], torch.Tensor],
        temperature: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.prototypes = prototypes
        self.frozen_until = frozen_until
        self.queue = queue
        self.queue_from = queue_from
        self.sinkhorn = sinkhorn
        self.temperature = temperature

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        c = cfg.MODEL.SWAV
        num_clips = max(cfg.INPUT.NUM_CLIPS, 2)  # two crops of one clip for rho = 1
        epoch = 1 / cfg.SOLVER.MAX_EPOCHS if cfg.SOLVER.MAX_EPOCHS > 0 else 0.0  # in progress
        has_queue = c.QUEUE_SIZE > 0
        if epoch == 0:
            logger.warning(
                "SOLVER.MAX_EPOCHS is 0: SwAV's prototypes are never frozen, its queue is filled from the start"
            )
        return {
            **super().from_config(cfg),
            "encoder": Encoder(cfg, c),
            "prototypes": nn.Linear(c.EMBED_DIM, c.NUM_PROTOTYPES, bias=False),
            "frozen_until": c.FREEZE_PROTOTYPES_EPOCHS * epoch if epoch else 0.0,
            "queue": FIFOQueue(c.QUEUE_SIZE, num_clips, c.EMBED_DIM) if has_queue else None,
            "queue_from": c.QUEUE_START_EPOCHS * epoch if has_queue and epoch else 0.0,
            "sinkhorn": partial(sinkhorn, epsilon=c.SINKHORN_EPSILON, iterations=c.SINKHORN_ITERATIONS),
            "temperature": c.TEMPERATURE,
        }

    @property
    def compares_videos(self) -> bool:
        """Sinkhorn-Knopp gives a batch of one video all prototypes alike."""
        return self.queue is None

    @torch.no_grad()
    def split(self, clips: list[torch.Tensor]) -> list[LossPart]:
        self.prototypes.weight.copy_(l2_normalize(self.prototypes.weight))
        return [LossPart(clips, None, 1.0)]

    def losses(self, part: LossPart) -> dict[str, torch.Tensor]:
        embeddings = torch.stack([self.encoder(self.normalize(clip)) for clip in part.clips], dim=1)  # (B, rho, d)
        monitor_embeddings(embeddings[:, 0], others(embeddings.transpose(0, 1), 0))
        embeddings = in_float32(l2_normalize)(embeddings)
        scores = self.scores(embeddings).transpose(0, 1)
        return {"loss_swav": swapped_prediction(scores, self.assign(embeddings), temperature=self.temperature)}

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Normalised embeddings (..., d) -> similarity to the prototypes, float32 (..., K)."""
        return in_float32(F.linear)(embeddings, self.prototypes.weight)

    @torch.no_grad()
    def assign(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Normalised embeddings (B, rho, d) -> targets (rho, B, K), each clip's over the batch of all processes."""
        batch, own = gather(embeddings.detach())
        samples = batch
        if self.queue is not None:
            self.pending.append(batch)
            samples = torch.cat([batch, self.queue.items]) if self.queue.is_full else batch
        scores = [self.scores(clip) for clip in samples.unbind(dim=1)]
        monitor_prototypes(torch.cat([s[: len(batch)] for s in scores]), self.temperature)
        return torch.stack([self.sinkhorn(s)[own] for s in scores])

    def before_step(self, progress: float) -> None:
        if progress < self.frozen_until:
            self.prototypes.weight.grad = None  # so that weight decay and momentum leave it alone as well

    def after_step(self, progress: float) -> None:
        if self.queue is not None and progress >= self.queue_from:
            self.queue.push(torch.cat(self.pending))
        self.pending = []
