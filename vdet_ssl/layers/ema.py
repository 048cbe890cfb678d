"""Weights that are a moving average of others: the momentum encoder."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from fvcore.common.param_scheduler import ConstantParamScheduler, CosineParamScheduler
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def momentum_copy(module: Module) -> Module:
    """Return a copy of `module` that gets no gradient, to be moved by `update_ema`."""
    return copy.deepcopy(module).requires_grad_(False)


def momentum_schedule(base: float, anneal: bool) -> Callable[[float], float]:
    """Momentum as a function of progress in [0, 1): constant, or annealed from `base` to 1.

    Annealed it is m = 1 - (1 - m_base) (cos(pi k / K) + 1) / 2 at progress k / K (A.3).
    """
    return CosineParamScheduler(base, 1.0) if anneal else ConstantParamScheduler(base)


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """average <- momentum * average + (1 - momentum) * module (section 3.2), in place.

    Parameters only: the running statistics of a batch norm follow from what the momentum encoder itself sees.
    """
    for p_average, p in zip(average.parameters(), module.parameters(), strict=True):
        p_average.lerp_(p, 1.0 - momentum)
