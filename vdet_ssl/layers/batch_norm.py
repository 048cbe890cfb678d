"""Batch normalisation of clips and vectors: over a process' samples, groups of them, or groups of processes."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils import comm
from torch import nn
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm as _CudaSyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from vdet_ssl.errors import ConfigError


def norm_factory(name: str, bn: CfgNode) -> Callable[[int], nn.Module] | None:
    """Return what makes the norm layers called `name` in a config: number of channels -> nn.Module.

    Args:
        name: "BN", "FrozenBN" or "" for no norm.
        bn: cfg.MODEL.BN.
    Returns:
        the callable, or None for "".
    Raises:
        ConfigError: `name` is another one.
    """
    if name == "BN":
        return partial(
            BatchNorm,
            eps=bn.EPS,
            momentum=bn.MOMENTUM,
            group_size=bn.GROUP_SIZE,
            num_sync_devices=bn.NUM_SYNC_DEVICES,
        )
    if name == "FrozenBN":
        return partial(FrozenBatchNorm, eps=bn.EPS)
    if name == "":
        return None
    raise ConfigError(f'The norm {name!r} is unknown: take "BN", "FrozenBN" or "" (none).')


# It is a BatchNorm3d so that detectron2's solver, fvcore's precise BN and LARS know it for what it is.
class BatchNorm(nn.BatchNorm3d):
    """Batch normalisation of float tensors (N, C, *) of any rank (B.1).

    In training the statistics are those of all N samples of this process; or of each `group_size` consecutive samples;
    or of all samples of `num_sync_devices` processes with consecutive ranks, whatever the number of samples of each.
    Running statistics are the average over the groups of one process, and synchronised over those that share them.

    Args:
        num_features: channels C.
        eps, momentum: as in torch's BatchNorm.
        group_size: samples; 0: all of the process.
        num_sync_devices: processes; at most all there are are taken.
    Raises:
        ConfigError: both kinds of groups are asked for; the processes or (in `forward`) the samples cannot be split
            into groups of this size.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    momentum: float

    def __init__(
        self, num_features: int, *, eps: float, momentum: float, group_size: int, num_sync_devices: int
    ) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        if group_size > 0 and num_sync_devices > 1:
            raise ConfigError(
                f"MODEL.BN.GROUP_SIZE ({group_size}) and MODEL.BN.NUM_SYNC_DEVICES ({num_sync_devices}) exclude each "
                "other: set GROUP_SIZE to 0 or NUM_SYNC_DEVICES to 1."
            )
        self.group_size = group_size
        self.num_sync_devices = num_sync_devices
        self._sync_size()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self._sync_size() > 1:
            return self._forward_synchronized(x)
        if self.training and 0 < self.group_size < len(x):
            return self._forward_groups(x)
        return super().forward(x)

    def num_normalized(self, num_samples: int) -> int:
        """Return how many samples share statistics in training, where each process has `num_samples`."""
        return min(self.group_size or num_samples, num_samples) * self._sync_size()

    def _check_input_dim(self, x: torch.Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"BatchNorm takes tensors (N, C, *), not of shape {tuple(x.shape)}.")

    def _sync_size(self) -> int:
        world_size = comm.get_world_size()
        size = min(self.num_sync_devices, world_size)
        if size > 1 and world_size % size:
            raise ConfigError(
                f"{world_size} processes cannot be split into groups of MODEL.BN.NUM_SYNC_DEVICES {size}: "
                "take a divisor of the number of processes."
            )
        return size

    def _forward_groups(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) % self.group_size:
            raise ConfigError(
                f"{len(x)} samples cannot be split into groups of MODEL.BN.GROUP_SIZE {self.group_size}: "
                "take a divisor of the samples of a process."
            )
        groups = x.split(self.group_size)
        means, variances = self.running_mean.new_zeros(2, len(groups), self.num_features)
        outputs = [
            F.batch_norm(group, mean, var, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
            for group, mean, var in zip(groups, means, variances, strict=True)
        ]
        self._update_running_stats(means.mean(0), variances.mean(0))
        return torch.cat(outputs)

    def _forward_synchronized(self, x: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(x)
        group = _sync_group(self._sync_size(), dist.group.WORLD)
        if x.is_cuda:
            self.num_batches_tracked.add_(1)
            stats = self.running_mean, self.running_var
            args = self.eps, self.momentum, group, group.size()
            return _CudaSyncBatchNorm.apply(x, self.weight, self.bias, *stats, *args)
        y, mean, unbiased_var = _synchronized_batch_norm(x, self.weight, self.bias, self.eps, group)
        self._update_running_stats(mean, unbiased_var)
        return y

    @torch.no_grad()
    def _update_running_stats(self, mean: torch.Tensor, unbiased_var: torch.Tensor) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_var, self.momentum)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group_size={self.group_size}, num_sync_devices={self.num_sync_devices}"


class FrozenBatchNorm(FrozenBatchNorm2d):
    """detectron2's FrozenBatchNorm2d for tensors (N, C, *) of any rank."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.requires_grad:
            return super().forward(x)
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * _per_channel(scale.to(x.dtype), x) + _per_channel(shift.to(x.dtype), x)

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace every batch norm in `module` by a frozen one of the same values; return `module` or its stand-in."""
        if isinstance(module, _BatchNorm):
            frozen = cls(module.num_features, module.eps).to(module.weight)
            frozen.load_state_dict({name: module.state_dict()[name] for name in frozen.state_dict()})
            return frozen
        for name, child in module.named_children():
            module.add_module(name, cls.convert_frozen_batchnorm(child))
        return module


@cache
def _sync_group(size: int, world: dist.ProcessGroup) -> dist.ProcessGroup:
    """The group of `size` consecutive ranks that this process is in; all processes make all groups, once a world."""
    if size == world.size():
        return world
    return dist.new_subgroups(group_size=size)[0]


class _AllReduce(torch.autograd.Function):
    """Sum over the processes of a group; so is its gradient, as each process' loss depends on every summand."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _AllReduce.apply(grad.contiguous(), ctx.group), None


def _synchronized_batch_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, group: dist.ProcessGroup
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Batch norm over the samples of all processes in `group`, made of differentiable parts; on any device.

    Returns:
        y (N, C, *), and mean and unbiased variance (C,).
    """
    dims = [d for d in range(x.dim()) if d != 1]
    count = x.new_full((1,), x.numel() / x.shape[1])
    total, count = _AllReduce.apply(torch.cat([x.sum(dims), count]), group).split([x.shape[1], 1])
    mean = total / count
    centered = x - _per_channel(mean, x)
    var = _AllReduce.apply(centered.square().sum(dims), group) / count
    y = centered * _per_channel((var + eps).rsqrt() * weight, x) + _per_channel(bias, x)
    return y, mean, var * (count / (count - 1))


def _per_channel(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.reshape(1, -1, *[1] * (x.dim() - 2))
