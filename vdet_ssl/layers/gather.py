"""The batch of all processes, seen by each."""

import torch
import torch.distributed as dist
from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_gather
from torch.nn import functional as F


def gather(x: torch.Tensor) -> tuple[torch.Tensor, slice]:
    """Concatenate the batches of all processes, by rank.

    With gradient, which for each row is the sum of what all processes back-propagate: where each computes the mean over
    its own queries and DistributedDataParallel averages over processes, the gradient is that of the mean over all.

    Args:
        x: any dtype (B, ...); B may differ between processes, the other dimensions may not.
    Returns:
        x of all processes (sum of B, ...), and the slice of it that is this process' own.
    """
    if comm.get_world_size() == 1:
        return x, slice(0, len(x))
    sizes = batch_sizes(x)
    padded = F.pad(x, [0, 0] * (x.dim() - 1) + [0, max(sizes) - len(x)])
    everything = [y[:size] for y, size in zip(differentiable_all_gather(padded.contiguous()), sizes, strict=True)]
    start = sum(sizes[: comm.get_rank()])
    return torch.cat(everything), slice(start, start + len(x))


def batch_sizes(x: torch.Tensor) -> list[int]:
    """Number of rows that each process has, by rank."""
    sizes = [x.new_zeros(1, dtype=torch.long) for _ in range(comm.get_world_size())]
    dist.all_gather(sizes, torch.full_like(sizes[0], len(x)))
    return torch.cat(sizes).tolist()
