"""Fixtures for the tests of the SSL methods: small ones, in float64, and clips for them."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, Backbone
from torch import nn

import vdet_ssl.modeling  # noqa: F401
from vdet_ssl.config import get_cfg
from vdet_ssl.layers import norm_factory


@BACKBONE_REGISTRY.register()
class OneConvBackbone(Backbone):
    """One convolution with norm and ReLU, float (N, 3, T, H, W) -> (N, 6, T, H / 2, W / 2)."""

    def __init__(self, cfg, input_shape):
        super().__init__()
        self.conv = nn.Conv3d(input_shape.channels, 6, 3, stride=(1, 2, 2), padding=1, bias=False)
        self.norm = norm_factory(cfg.MODEL.RESNETS.NORM, cfg.MODEL.BN)(6)

    def forward(self, x):
        return {"res5": self.norm(self.conv(x)).relu()}

    def output_shape(self):
        return {"res5": ShapeSpec(channels=6, stride=2)}


def _build_method(name, options=(), seed=0):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "OneConvBackbone"
    for method in ("BYOL", "MOCO", "SIMCLR", "SWAV"):
        cfg.MODEL[method].EMBED_DIM = 5
        cfg.MODEL[method].HIDDEN_DIM = 7
    cfg.MODEL.MOCO.QUEUE_SIZE = 11
    cfg.MODEL.SWAV.NUM_PROTOTYPES = 4
    cfg.SOLVER.MAX_EPOCHS = 10.0
    cfg.merge_from_list(list(options))
    torch.manual_seed(seed)
    return META_ARCH_REGISTRY.get(name)(cfg).double().train()


@pytest.fixture
def build_method():
    """build(name, options=(), seed=0): a small float64 method in training mode; options are KEY, VALUE, ..."""
    return _build_method


@pytest.fixture
def make_clips():
    """make(num_clips, num_videos, seed=0): list of uint8 tensors (num_videos, 2, 8, 8, 3)."""

    def make(num_clips, num_videos, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return list(torch.randint(0, 256, (num_clips, num_videos, 2, 8, 8, 3), generator=generator, dtype=torch.uint8))

    return make
