"""Unsupervised spatiotemporal pre-training and action detection, as a part of detectron2 (arXiv 2104.14558)."""

import os
import warnings

__version__ = "0.2.0"

# Threads that wait at a barrier give their core to whoever has work, where by default they spin: with another busy process
# beside it, training takes many times as long.  It has to be said before torch is imported; processes inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# detectron2 and fvcore call it when they are imported; nobody who sees the warning can do anything about it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=FutureWarning)
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script", category=DeprecationWarning)
