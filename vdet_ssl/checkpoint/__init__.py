from .checkpointer import CheckpointError, VideoCheckpointer

__all__ = ["CheckpointError", "VideoCheckpointer"]
