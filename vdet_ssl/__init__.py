"""Unsupervised spatiotemporal pre-training and action detection, as a part of detectron2 (arXiv 2104.14558)."""

import warnings

__version__ = "0.2.0"

# detectron2 and fvcore call it when they are imported; nobody who sees the warning can do anything about it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=FutureWarning)
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=DeprecationWarning)
