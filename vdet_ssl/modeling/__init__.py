"""Importing this fills detectron2's registries with the backbones, methods, meta-architectures and heads."""

from vdet_ssl.modeling import backbone, meta_arch, roi_heads, ssl

__all__ = ["backbone", "meta_arch", "roi_heads", "ssl"]
