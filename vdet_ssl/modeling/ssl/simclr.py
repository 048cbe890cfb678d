"""SimCLR for any number of clips (section 3.2, B.1)."""

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY

from vdet_ssl.config import CfgNode
from vdet_ssl.errors import ConfigError
from vdet_ssl.layers import gather
from vdet_ssl.losses import info_nce
from vdet_ssl.modeling.ssl.base import LossPart, SSLMethod, others
from vdet_ssl.modeling.ssl.encoder import Encoder
from vdet_ssl.modeling.ssl.monitor import monitor_embeddings


@META_ARCH_REGISTRY.register()
class SimCLR(SSLMethod):
    """Each clip is told from the clips of the other videos in the batch by its likeness to those of its video: eq. (1).

    The batch is that of all processes, with gradient through queries and keys.  All clips are in one graph, the one
    part.  Accumulating gradients adds no negatives: they come from one batch.

    PySlowFast takes two clips at a time; for two clips the losses are the same.  The SimCLR config it was released with
    has no BN in the MLP, against B.1 (here MLP_NORM "BN").

    Args:
        encoder: normalised clips (B, 3, T, H, W) -> embeddings (B, d).
        temperature: alpha.
        multiple_positives: "sum" or "mean", see `info_nce`.
    """

    @configurable
    def __init__(self, *, encoder: Encoder, temperature: float, multiple_positives: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.temperature = temperature
        self.multiple_positives = multiple_positives

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        c = cfg.MODEL.SIMCLR
        return {
            **super().from_config(cfg),
            "encoder": Encoder(cfg, c),
            "temperature": c.TEMPERATURE,
            "multiple_positives": c.MULTIPLE_POSITIVES,
        }

    @property
    def compares_videos(self) -> bool:
        return True

    def split(self, clips: list[torch.Tensor]) -> list[LossPart]:
        return [LossPart(clips, None, 1.0)]

    def losses(self, part: LossPart) -> dict[str, torch.Tensor]:
        embeddings = torch.stack([self.encoder(self.normalize(clip)) for clip in part.clips], dim=1)  # (B, rho, d)
        monitor_embeddings(embeddings[:, 0], others(embeddings.transpose(0, 1), 0))
        keys, own = gather(embeddings)
        if len(keys) < 2:
            raise ConfigError("SimCLR has no negatives in a batch of one video: raise SOLVER.IMS_PER_BATCH")
        rho = len(part.clips)
        key_index = torch.arange(len(keys) * rho, device=keys.device)
        query_index = key_index[own.start * rho : own.stop * rho, None]
        same_video = query_index // rho == key_index // rho
        loss = info_nce(
            embeddings.flatten(0, 1),
            keys.flatten(0, 1),
            same_video & (query_index != key_index),
            ~same_video,
            temperature=self.temperature,
            multiple_positives=self.multiple_positives,
        )
        return {"loss_simclr": loss}
