from .action_roi_heads import ActionROIHeads

__all__ = ["ActionROIHeads"]
