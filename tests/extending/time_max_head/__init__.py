"""A second RoI head: features are max-pooled over time where ActionROIHeads averages them."""

from detectron2.modeling import ROI_HEADS_REGISTRY

from vdet_ssl.modeling.roi_heads import ActionROIHeads


@ROI_HEADS_REGISTRY.register()
class TimeMaxROIHeads(ActionROIHeads):
    def pool_time(self, features):
        """float (B, C, T, H, W) -> (B, C, H, W)"""
        return features.amax(dim=2)
