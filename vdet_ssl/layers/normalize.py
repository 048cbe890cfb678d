"""Clips of grey levels as a backbone takes them."""

from collections.abc import Sequence

import torch
from torch import nn


class ClipNormalizer(nn.Module):
    """uint8 clips (..., T, H, W, C) -> (clip - mean) / std, float (..., C, T, H, W), channels last in memory.

    Mean and deviation move with the model and are not part of its state dict.

    Args:
        mean, std: grey levels (0..255) of each of the C channels.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return clip.sub(self.mean).div_(self.std).movedim(-1, -4)
