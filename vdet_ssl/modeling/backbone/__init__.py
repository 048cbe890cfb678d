from vdet_ssl.modeling.backbone.slow_resnet import SlowResNet, build_slow_resnet_backbone

__all__ = ["SlowResNet", "build_slow_resnet_backbone"]
