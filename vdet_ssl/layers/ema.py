"""Weights that are a moving average of others: the momentum encoder."""

import copy
import math

import torch


def momentum_copy(module):
    """Return a copy of `module` that gets no gradient, to be moved by `update_ema`."""
    return copy.deepcopy(module).requires_grad_(False)


def annealed_momentum(base, progress):
    """m = 1 - (1 - m_base) (cos(pi k / K) + 1) / 2 (A.3): from `base` at progress k / K = 0 to 1 at the end."""
    return 1.0 - (1.0 - base) * (math.cos(math.pi * progress) + 1.0) / 2.0


@torch.no_grad()
def update_ema(average, module, momentum):
    """average <- momentum * average + (1 - momentum) * module (section 3.2), in place.

    Parameters only: the running statistics of a batch norm follow from what the momentum encoder itself sees.
    """
    for p_average, p in zip(average.parameters(), module.parameters(), strict=True):
        p_average.lerp_(p, 1.0 - momentum)
