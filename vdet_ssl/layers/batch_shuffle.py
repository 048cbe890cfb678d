"""Shuffling BN of MoCo (B.1): a sample's key is computed among other samples than those of its own process."""

from collections.abc import Callable

import torch

from vdet_ssl.layers.gather import gather


def shuffled(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, seed: int
) -> tuple[torch.Tensor, slice]:
    """Apply `function` to the batch of all processes, each taking a random part of it, and undo the shuffling.

    Args:
        function: (B, ...) -> (B, ...), which may mix samples as batch norm does.
        x: any dtype (B, ...), without gradient; B may differ between processes.
        seed: the same in all processes, of the permutation.
    Returns:
        `function` of all processes' samples (sum of B, ...), in their own order by rank, and the slice that is this
        process' own.
    """
    x, own = gather(x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    y, _ = gather(function(x[order[own]]))
    return y[order.argsort()], own
