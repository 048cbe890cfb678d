"""A fifth method: SimSiam (Chen and He, 2021) for rho clips, BYOL whose targets come from the encoder itself."""

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY

from vdet_ssl.layers import MLP, norm_factory
from vdet_ssl.losses import negative_cosine
from vdet_ssl.modeling.ssl import Encoder, LossPart, SSLMethod, others


def add_config(cfg):
    cfg.MODEL.SIMSIAM = CN({"EMBED_DIM": 2048, "HIDDEN_DIM": 2048, "PROJECTOR_LAYERS": 3, "MLP_NORM": "BN"})
    cfg.MODEL.SIMSIAM.PREDICTOR_DIM = 512


@META_ARCH_REGISTRY.register()
class SimSiam(SSLMethod):
    @configurable
    def __init__(self, *, encoder, predictor, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.predictor = encoder, predictor

    @classmethod
    def from_config(cls, cfg):
        c = cfg.MODEL.SIMSIAM
        predictor = MLP(c.EMBED_DIM, c.PREDICTOR_DIM, c.EMBED_DIM, 2, norm_factory("BN", cfg.MODEL.BN))
        return {**super().from_config(cfg), "encoder": Encoder(cfg, c), "predictor": predictor}

    def split(self, clips):
        return [LossPart(clips, None, 1.0)]  # all clips are in one graph

    def losses(self, part):
        embeddings = torch.stack([self.encoder(self.normalize(clip)) for clip in part.clips])
        targets = embeddings.detach()
        each = [negative_cosine(self.predictor(z), others(targets, i)) for i, z in enumerate(embeddings)]
        return {"loss_simsiam": sum(each) / len(each)}
