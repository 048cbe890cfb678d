"""Unsupervised spatiotemporal pre-training and action detection, as a part of detectron2 (arXiv 2104.14558)."""

__version__ = "0.1.0"
