from vdet_ssl.checkpoint.checkpointer import VideoCheckpointer, load_whole_model
from vdet_ssl.checkpoint.read import read_checkpoint
from vdet_ssl.errors import CheckpointError

__all__ = ["CheckpointError", "VideoCheckpointer", "load_whole_model", "read_checkpoint"]
