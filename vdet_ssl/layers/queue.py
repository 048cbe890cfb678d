"""A first-in-first-out queue of embeddings, the same in all processes and part of a checkpoint."""

import torch
from torch import nn
from torch.nn import functional as F


class FIFOQueue(nn.Module):
    """Buffer of the last `size` items of a shape (..., d).  It starts full of random unit vectors of length d, the same
    in every process.

    Attributes:
        items: float (size, ..., d), as a ring: the oldest is where the next one goes.
        added: int64 (size,), number of the `push` that brought each item; 0: random.
        num_items, num_pushes: int64, how many items, and pushes, there have been.
    """

    items: torch.Tensor
    added: torch.Tensor
    num_items: torch.Tensor
    num_pushes: torch.Tensor

    def __init__(self, size: int, *shape: int) -> None:
        super().__init__()
        items = torch.randn(size, *shape, generator=torch.Generator().manual_seed(0))
        self.register_buffer("items", F.normalize(items, dim=-1))
        self.register_buffer("added", torch.zeros(size, dtype=torch.long))
        self.register_buffer("num_items", torch.zeros((), dtype=torch.long))
        self.register_buffer("num_pushes", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return len(self.items)

    @torch.no_grad()
    def push(self, x: torch.Tensor) -> None:
        """Put in x, float (N, ..., d), which has to be the same in all processes; the oldest go.  N need not divide size."""
        x = x[-len(self) :]
        where = (self.num_items + torch.arange(len(x), device=x.device)) % len(self)
        self.num_items += len(x)
        self.num_pushes += 1
        self.items[where] = x.to(self.items.dtype)
        self.added[where] = self.num_pushes

    @property
    def is_full(self) -> torch.Tensor:
        """Whether everything random has left: 0-d bool tensor."""
        return self.num_items >= len(self)

    def mean_age(self) -> torch.Tensor:
        """Mean number of pushes since each item came: 1 for those of the last one.  0-d tensor."""
        return (self.num_pushes + 1 - self.added).float().mean()
