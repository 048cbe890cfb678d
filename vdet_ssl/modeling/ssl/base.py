"""The contract of a self-supervised method, and how a batch of clips is read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vdet_ssl.layers import normalize_clip


@dataclass
class LossPart:
    """A part of a method's loss that can be back-propagated alone.

    Attributes:
        clips: what the encoder sees with gradient: list of uint8 tensors of shape (B, T, H, W, 3).
        targets: what they are compared with, computed without gradient; its form is the method's own.
        weight: the part's share of the loss, usually 1 / number of parts.
    """

    clips: list[torch.Tensor]
    targets: Any
    weight: float


class SSLMethod(nn.Module, ABC):
    """A method of section 3.2: how its loss falls into parts, one part's loss, and what goes with a step.

    The trainer calls `split` once for each batch and `forward` on each part, back-propagating each as it comes.  After
    one such round, or several that are accumulated, it calls `before_step`, the optimizer and `after_step`.  `forward`
    on a whole batch is detectron2's contract: the sum over the parts, hence the same gradients, in one graph.

    A subclass has an `encoder` (see `Encoder`), whose backbone is what pre-training is for.

    Args:
        pixel_mean, pixel_std: grey levels (0..255) of each channel, for `normalize`.
    """

    def __init__(self, *, pixel_mean, pixel_std):
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        return {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}

    @property
    def device(self):
        return self.pixel_mean.device

    @abstractmethod
    def split(self, clips):
        """Compute the targets, without gradient, and say how the loss falls into parts.

        Args:
            clips: rho (two for rho = 1) uint8 tensors of shape (B, T, H, W, 3) on the model's device.
        Returns:
            list[LossPart]
        """

    @abstractmethod
    def losses(self, part):
        """Return the part's loss dict, name -> scalar tensor, before `part.weight` is applied."""

    def before_step(self, progress):
        """Change gradients between the last back-propagation and the optimizer's step; `progress` in [0, 1)."""

    def after_step(self, progress):
        """Update what is the method's own (momentum encoder, queue) after a step; `progress` in [0, 1) is that step's."""

    def forward(self, inputs):
        """In training, return a loss dict: of one `LossPart`, or of a whole batch in detectron2's form.  Else: `inference`.

        Args:
            inputs: a LossPart, or list[dict], each with "clips": rho uint8 tensors of shape (T, H, W, 3).
        """
        if not self.training:
            return self.inference(inputs)
        parts = [inputs] if isinstance(inputs, LossPart) else self.split(self.stack_clips(inputs))
        total = {}
        for part in parts:
            for name, loss in self.losses(part).items():
                total[name] = total.get(name, 0.0) + part.weight * loss
        return total

    def inference(self, batched_inputs):
        """Return the pooled features of the backbone for each video's first clip: list[{"features": float32 (C,)}]."""
        clips = torch.stack([x["clips"][0] for x in batched_inputs]).to(self.device, non_blocking=True)
        return [{"features": features} for features in self.encoder.features(self.normalize(clips)).float()]

    def stack_clips(self, batched_inputs):
        """Stack the i-th clips of all videos: list[dict] -> rho uint8 tensors (B, T, H, W, 3) on the model's device.

        Raises:
            ValueError: there are fewer than two clips, or not as many of each video.
        """
        by_clip = list(zip(*(x["clips"] for x in batched_inputs), strict=True))
        if len(by_clip) < 2:
            raise ValueError("A method needs at least two clips of a video; for rho = 1, two crops of one clip.")
        return [torch.stack(clips).to(self.device, non_blocking=True) for clips in by_clip]

    def normalize(self, clip):
        """uint8 (B, T, H, W, 3) -> float (B, 3, T, H, W), zero mean and unit deviation, channels last in memory."""
        return normalize_clip(clip, self.pixel_mean, self.pixel_std)


def others(keys, i):
    """The keys (rho, B, d) of all clips but the i-th: (rho - 1, B, d), the positives of that clip."""
    return torch.cat([keys[:i], keys[i + 1 :]])
