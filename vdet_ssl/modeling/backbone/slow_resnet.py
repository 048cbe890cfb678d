"""The Slow pathway of SlowFast networks: a ResNet over clips that looks along time in few places (Table 17)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import ResNet
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from vdet_ssl.config import CfgNode
from vdet_ssl.errors import ConfigError
from vdet_ssl.layers import FrozenBatchNorm, norm_factory

Norm = Callable[[int], nn.Module]  # number of channels -> norm layer

BLOCKS = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}  # depth -> blocks of res2..res5


class ConvNorm(nn.Conv3d):
    """Convolution over (N, C, T, H, W), then a norm; weights as in [38] (B.1).

    Padded so that T stays, and H and W change by the stride alone.

    Args:
        kernel_size: T, H, W; odd.
        stride, dilation: of space, never of time.
        norm: channels -> norm layer.
        zero_init: the norm's weight starts at 0.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int, int],
        *,
        norm: Norm,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        zero_init: bool = False,
    ) -> None:
        t, h, w = kernel_size
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=(1, stride, stride),
            padding=(t // 2, h // 2 * dilation, w // 2 * dilation),
            dilation=(1, dilation, dilation),
            groups=groups,
            bias=False,
        )
        self.norm = norm(out_channels)
        c2_msra_fill(self)
        if zero_init:
            nn.init.zeros_(self.norm.get_parameter("weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(x))


class Block(CNNBlockBase):
    """A part of the network that can be frozen: detectron2's, for norms of 5-D tensors."""

    def freeze(self) -> nn.Module:
        for parameter in self.parameters():
            parameter.requires_grad = False
        return FrozenBatchNorm.convert_frozen_batchnorm(self)


class Stem(Block):
    """t x 7 x 7 convolution of stride 2 in space, then 1 x 3 x 3 max pooling of stride 2."""

    def __init__(self, in_channels: int, out_channels: int, *, temporal_kernel: int, norm: Norm) -> None:
        super().__init__(in_channels, out_channels, stride=4)
        self.conv1 = ConvNorm(in_channels, out_channels, (temporal_kernel, 7, 7), stride=2, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.conv1(x))
        return F.max_pool3d(x, kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))


class ResidualBlock(Block):
    """relu(branch(x) + shortcut(x)); the shortcut is a 1 x 1 x 1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: Norm) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut: ConvNorm | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, (1, 1, 1), stride=stride, norm=norm)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.branch(x)
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(y)


class BasicBlock(ResidualBlock):
    """t x 3 x 3, then 1 x 3 x 3; the dilation is that of both."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        temporal_kernel: int,
        stride: int,
        dilation: int,
        norm: Norm,
        zero_init: bool,
    ) -> None:
        super().__init__(in_channels, out_channels, stride=stride, norm=norm)
        args: dict[str, Any] = {"dilation": dilation, "norm": norm}
        self.conv1 = ConvNorm(in_channels, out_channels, (temporal_kernel, 3, 3), stride=stride, **args)
        self.conv2 = ConvNorm(out_channels, out_channels, (1, 3, 3), zero_init=zero_init, **args)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu_(self.conv1(x)))


class BottleneckBlock(ResidualBlock):
    """t x 1 x 1, then 1 x 3 x 3 in groups and dilated, then 1 x 1 x 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        num_groups: int,
        stride_in_1x1: bool,
        temporal_kernel: int,
        stride: int,
        dilation: int,
        norm: Norm,
        zero_init: bool,
    ) -> None:
        super().__init__(in_channels, out_channels, stride=stride, norm=norm)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels
        self.conv1 = ConvNorm(in_channels, width, (temporal_kernel, 1, 1), stride=stride_1x1, norm=norm)
        self.conv2 = ConvNorm(
            width, width, (1, 3, 3), stride=stride_3x3, dilation=dilation, groups=num_groups, norm=norm
        )
        self.conv3 = ConvNorm(width, out_channels, (1, 1, 1), norm=norm, zero_init=zero_init)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))


class SlowResNet(ResNet):
    """detectron2's ResNet over clips: its stages, their names, strides and freezing are those of its images' ResNet."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """float32 (N, C, T, H, W) -> name of a stage -> (N, C', T, H', W'), H' = H / stride rounded up."""
        if x.dim() != 5:
            raise ValueError(f"SlowResNet takes clips (N, C, T, H, W), not a tensor of shape {tuple(x.shape)}.")
        outputs = {}
        for name in ["stem", *self.stage_names]:
            x = getattr(self, name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_slow_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SlowResNet:
    """Build a `SlowResNet` from cfg.MODEL.RESNETS, whose keys mean what they do in detectron2, and BACKBONE.FREEZE_AT.

    Raises:
        ConfigError: a key has a value that cannot be built.
    """
    resnets = cfg.MODEL.RESNETS
    _check(resnets)
    norm = norm_factory(resnets.NORM, cfg.MODEL.BN)
    if norm is None:
        raise ConfigError('MODEL.RESNETS.NORM "": a Slow ResNet has a norm, "BN" or "FrozenBN".')
    stem = Stem(input_shape.channels, resnets.STEM_OUT_CHANNELS, temporal_kernel=resnets.TEMPORAL_KERNELS[0], norm=norm)
    block: type[ResidualBlock] = BasicBlock if resnets.DEPTH == 18 else BottleneckBlock
    in_channels: int = resnets.STEM_OUT_CHANNELS
    stages: list[list[ResidualBlock]] = []
    for i, num_blocks in enumerate(BLOCKS[resnets.DEPTH]):
        arguments = _block_arguments(resnets, i, norm)
        strides = [1 if i == 0 or arguments["dilation"] > 1 else 2] + [1] * (num_blocks - 1)
        stages.append([])
        for stride in strides:
            stages[-1].append(block(in_channels, resnets.RES2_OUT_CHANNELS * 2**i, stride=stride, **arguments))
            in_channels = resnets.RES2_OUT_CHANNELS * 2**i
    return SlowResNet(stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)


def _block_arguments(resnets: CfgNode, i: int, norm: Norm) -> dict[str, Any]:
    """Return what all blocks of the i-th stage (0: res2) are built with."""
    arguments = {
        "temporal_kernel": resnets.TEMPORAL_KERNELS[1 + i],
        "dilation": resnets.RES5_DILATION if i == 3 else 1,
        "norm": norm,
        # A norm that is frozen would stay at 0.
        "zero_init": resnets.NORM == "BN" and resnets.ZERO_INIT_RESIDUAL,
    }
    if resnets.DEPTH > 18:
        arguments["bottleneck_channels"] = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 2**i
        arguments["num_groups"] = resnets.NUM_GROUPS
        arguments["stride_in_1x1"] = resnets.STRIDE_IN_1X1
    return arguments


def _check(resnets: CfgNode) -> None:
    if resnets.DEPTH not in BLOCKS:
        raise ConfigError(f"MODEL.RESNETS.DEPTH {resnets.DEPTH}: a Slow ResNet has a depth of {list(BLOCKS)}.")
    kernels = resnets.TEMPORAL_KERNELS
    if len(kernels) != 5 or any(k % 2 == 0 for k in kernels):
        raise ConfigError(f"MODEL.RESNETS.TEMPORAL_KERNELS {kernels}: give five odd numbers, for the stem, res2..res5.")
    if resnets.DEPTH == 18 and resnets.RES2_OUT_CHANNELS > 64:
        raise ConfigError(
            f"MODEL.RESNETS.RES2_OUT_CHANNELS {resnets.RES2_OUT_CHANNELS} is meant for bottlenecks: a ResNet-18 has 64 "
            "(or fewer, to be small)."
        )
    if resnets.RES5_DILATION not in (1, 2):
        raise ConfigError(f"MODEL.RESNETS.RES5_DILATION {resnets.RES5_DILATION}: take 1 or 2.")
    stages = ["stem", "res2", "res3", "res4", "res5"]
    if not resnets.OUT_FEATURES or not set(resnets.OUT_FEATURES) <= set(stages):
        raise ConfigError(f"MODEL.RESNETS.OUT_FEATURES {resnets.OUT_FEATURES}: take some of {stages}.")
