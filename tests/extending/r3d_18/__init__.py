"""torchvision's R3D-18 as a backbone; its own state dict is read as it is."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torchvision.models.video import r3d_18


class R3D18(Backbone):
    def __init__(self):
        super().__init__()
        for name, layer in list(r3d_18().named_children())[:-2]:  # without pooling and classifier
            self.add_module(name, layer)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return {"res5": x}

    def output_shape(self):
        return {"res5": ShapeSpec(channels=512, stride=16)}


@BACKBONE_REGISTRY.register()
def build_r3d_18_backbone(cfg, input_shape):
    return R3D18()
