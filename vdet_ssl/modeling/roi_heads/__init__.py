from vdet_ssl.modeling.roi_heads.action_roi_heads import ActionROIHeads

__all__ = ["ActionROIHeads"]
