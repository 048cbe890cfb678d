from vdet_ssl.checkpoint.checkpointer import VideoCheckpointer
from vdet_ssl.errors import CheckpointError

__all__ = ["CheckpointError", "VideoCheckpointer"]
