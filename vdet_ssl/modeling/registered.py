"""What the config names in detectron2's registries."""

from typing import Any

from detectron2 import modeling
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from fvcore.common.registry import Registry

from vdet_ssl.config import CfgNode
from vdet_ssl.errors import ConfigError


def find_registered(cfg: CfgNode, key: str, registry: Registry) -> Any:
    """Return the class or function of a registry that a key names; ConfigError if there is none."""
    name = cfg.peek(key)
    if name not in registry:
        known = ", ".join(other for other, _ in registry)
        raise ConfigError(f"{key} {name!r} is none of {known} (IMPORTS names the modules that add others)")
    return registry.get(name)


def build_backbone(cfg: CfgNode) -> Backbone:
    """As detectron2's; ConfigError if MODEL.BACKBONE.NAME names none."""
    find_registered(cfg, "MODEL.BACKBONE.NAME", BACKBONE_REGISTRY)
    return modeling.build_backbone(cfg)
