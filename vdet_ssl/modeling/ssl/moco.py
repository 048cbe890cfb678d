"""MoCo for any number of clips (section 3.2, B.1)."""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY

from vdet_ssl.config import CfgNode
from vdet_ssl.layers import FIFOQueue, gather, momentum_copy, momentum_schedule, shuffled, update_ema
from vdet_ssl.losses import in_float32, info_nce, l2_normalize
from vdet_ssl.modeling.ssl.base import LossPart, SSLMethod, others
from vdet_ssl.modeling.ssl.encoder import Encoder
from vdet_ssl.modeling.ssl.monitor import monitor_embeddings, put_scalars


@META_ARCH_REGISTRY.register()
class MoCo(SSLMethod):
    """Each clip is told from a queue of other videos' clips by its likeness to the other clips of its video: eq. (1).

    There is a part for each clip, the query; memory does not grow with their number.  The keys of all rho clips of all
    processes enter the queue after the step (as with the released models' MOCO_MULTI_VIEW_QUEUE), clip by clip.

    PySlowFast differs in three ways: it takes the mean over one softmax per positive (`multiple_positives`), it
    back-propagates the sum over the clips where the paper has the mean (rho times the gradient, hence a learning rate
    that means something else), and it steps only once the queue has been filled for the first time.

    Args:
        encoder: normalised clips (B, 3, T, H, W) -> embeddings (B, d); the momentum encoder starts as its copy.
        queue: of keys (d,).
        momentum: progress -> m.
        temperature: alpha.
        multiple_positives: "sum" or "mean", see `info_nce`.
        shuffle_bn: compute keys among random samples of all processes.
    """

    @configurable
    def __init__(
        self,
        *,
        encoder: Encoder,
        queue: FIFOQueue,
        momentum: Callable[[float], float],
        temperature: float,
        multiple_positives: str,
        shuffle_bn: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.momentum_encoder = momentum_copy(encoder)
        self.queue = queue
        self.momentum = momentum
        self.temperature = temperature
        self.multiple_positives = multiple_positives
        self.shuffle_bn = shuffle_bn

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        c = cfg.MODEL.MOCO
        return {
            **super().from_config(cfg),
            "encoder": Encoder(cfg, c),
            "queue": FIFOQueue(c.QUEUE_SIZE, c.EMBED_DIM),
            "momentum": momentum_schedule(c.MOMENTUM, c.ANNEAL_MOMENTUM),
            "temperature": c.TEMPERATURE,
            "multiple_positives": c.MULTIPLE_POSITIVES,
            "shuffle_bn": c.SHUFFLE_BN,
        }

    @torch.no_grad()
    def split(self, clips: list[torch.Tensor]) -> list[LossPart]:
        keys = torch.stack([self.embed_keys(clip, i) for i, clip in enumerate(clips)])
        return [LossPart([clip], others(keys, i), 1 / len(clips)) for i, clip in enumerate(clips)]

    def embed_keys(self, clip: torch.Tensor, i: int) -> torch.Tensor:
        """Keys (B, d) of the i-th clips, uint8 (B, T, H, W, 3); those of all processes wait for `after_step`."""
        if self.shuffle_bn:
            seed = int(self.queue.num_items) + i
            keys, own = shuffled(lambda x: self.momentum_encoder(self.normalize(x)), clip, seed)
        else:
            keys, own = gather(self.momentum_encoder(self.normalize(clip)))
        self.pending.append(in_float32(l2_normalize)(keys))
        return self.pending[-1][own]

    def losses(self, part: LossPart) -> dict[str, torch.Tensor]:
        queries = self.encoder(self.normalize(part.clips[0]))
        monitor_embeddings(queries, part.targets)
        put_scalars(queue_age=self.queue.mean_age())
        keys = torch.cat([part.targets.flatten(0, 1), self.queue.items])
        key_index = torch.arange(len(keys), device=keys.device)
        queued = (key_index >= len(keys) - len(self.queue)).expand(len(queries), -1)
        same_video = key_index % len(queries) == key_index[: len(queries), None]
        loss = info_nce(
            queries,
            keys,
            same_video & ~queued,
            queued,
            temperature=self.temperature,
            multiple_positives=self.multiple_positives,
        )
        return {"loss_moco": loss}

    def after_step(self, progress: float) -> None:
        self.queue.push(torch.cat(self.pending))
        self.pending = []
        update_ema(self.momentum_encoder, self.encoder, self.momentum(progress))
