"""The contract of a self-supervised method, and how a batch of clips is read."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from detectron2.utils import comm
from torch import nn

from vdet_ssl.config import CfgNode
from vdet_ssl.errors import ConfigError
from vdet_ssl.layers import MLP, BatchNorm, ClipNormalizer
from vdet_ssl.modeling.ssl.encoder import Encoder


@dataclass
class LossPart:
    """A part of a method's loss that can be back-propagated alone.

    Attributes:
        clips: what the encoder sees with gradient: list of uint8 tensors of shape (B, T, H, W, 3).
        targets: what they are compared with, computed without gradient; its form is the method's own.
        weight: the part's weight in the loss, usually 1 / number of parts.
    """

    clips: list[torch.Tensor]
    targets: Any
    weight: float


class SSLMethod(nn.Module, ABC):
    """A method of section 3.2: how its loss falls into parts, one part's loss, and what goes with a step.

    The trainer calls `split` once for each batch and `forward` on each part, back-propagating each as it comes.  After
    one such round, or several that are accumulated, it calls `before_step`, the optimizer and `after_step`.  `forward`
    on a whole batch is detectron2's contract: the sum over the parts, hence the same gradients, in one graph.

    What enters a queue waits in `pending` for `after_step`.  A whole batch is a step of its own, so it drops what waits
    from the one before: nothing piles up under a trainer that never calls `after_step`, such as detectron2's
    SimpleTrainer.  Momentum encoder and queue stay as they are there, unless a hook calls `after_step(progress)` after
    each step; that gives what our trainer gives, but for `before_step` (SwAV's frozen prototypes).

    A subclass has an `encoder` (see `Encoder`), whose backbone is what pre-training is for.

    Args:
        normalize: uint8 clips (B, T, H, W, 3) -> what the encoder takes, float (B, 3, T, H, W).

    Attributes:
        compares_batch: whether the videos of a batch are compared with each other, so that several accumulated batches
            give another loss than one large batch.
        pending: float tensors (N, ...) that enter the method's queue with `after_step`.
    """

    compares_batch: ClassVar[bool] = False
    encoder: Encoder

    def __init__(self, *, normalize: ClipNormalizer) -> None:
        super().__init__()
        self.normalize = normalize
        self.pending: list[torch.Tensor] = []

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"normalize": ClipNormalizer(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)}

    @property
    def device(self) -> torch.device:
        return self.normalize.mean.device

    @abstractmethod
    def split(self, clips: list[torch.Tensor]) -> list[LossPart]:
        """Compute the targets, without gradient, and say how the loss falls into parts.

        Args:
            clips: rho (two for rho = 1) uint8 tensors of shape (B, T, H, W, 3) on the model's device.
        """

    @abstractmethod
    def losses(self, part: LossPart) -> dict[str, torch.Tensor]:
        """Return the part's loss dict, name -> scalar tensor, before `part.weight` is applied."""

    @property
    def compares_videos(self) -> bool:
        """Whether the loss means nothing without other videos in the batch."""
        return False

    def check_batch(self, num_videos: int) -> None:
        """Raise ConfigError if the method cannot learn from batches of so few videos.

        Args:
            num_videos: of a batch, over all processes.
        """
        own = num_videos // comm.get_world_size()
        norms = [
            layer for mlp in self.modules() if isinstance(mlp, MLP) for layer in mlp if isinstance(layer, BatchNorm)
        ]
        if any(norm.num_normalized(own) < 2 for norm in norms):
            raise ConfigError(
                f"{type(self).__name__}'s MLP normalises each value over one video alone, which leaves nothing: a process "
                f"has {own} of the {num_videos} videos of SOLVER.IMS_PER_BATCH; raise that, or MODEL.BN.GROUP_SIZE where "
                "it is 1, or take MODEL.BN.NUM_SYNC_DEVICES 2 with several processes, or no MLP_NORM"
            )
        if self.compares_videos and num_videos < 2:
            raise ConfigError(
                f"{type(self).__name__} tells a video from the others of its batch, and SOLVER.IMS_PER_BATCH is "
                f"{num_videos}: raise it"
            )

    def before_step(self, progress: float) -> None:
        """Change gradients between the last back-propagation and the optimizer's step; `progress` in [0, 1)."""

    def after_step(self, progress: float) -> None:
        """Update what is the method's own (momentum encoder, queue) after a step; `progress` in [0, 1) is that step's."""

    def forward(
        self, inputs: LossPart | list[dict[str, Any]]
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """In training, return a loss dict: of one `LossPart`, or of a whole batch in detectron2's form.  Else: `inference`.

        Args:
            inputs: a LossPart, or list[dict], each with "clips": rho uint8 tensors of shape (T, H, W, 3).
        """
        if isinstance(inputs, LossPart):
            return self._sum([inputs])
        if not self.training:
            return self.inference(inputs)
        self.pending = []
        return self._sum(self.split(self.stack_clips(inputs)))

    def _sum(self, parts: list[LossPart]) -> dict[str, torch.Tensor]:
        total: dict[str, Any] = {}
        for part in parts:
            for name, loss in self.losses(part).items():
                total[name] = total.get(name, 0.0) + part.weight * loss
        return total

    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        """Return the pooled features of the backbone for each video's first clip: list[{"features": float32 (C,)}]."""
        clips = torch.stack([x["clips"][0] for x in batched_inputs]).to(self.device, non_blocking=True)
        return [{"features": features} for features in self.encoder.features(self.normalize(clips)).float()]

    def stack_clips(self, batched_inputs: list[dict[str, Any]]) -> list[torch.Tensor]:
        """Stack the i-th clips of all videos: list[dict] -> rho uint8 tensors (B, T, H, W, 3) on the model's device.

        Raises:
            ConfigError: there are fewer than two clips, or those of a batch have several sizes.
            ValueError: there are not as many of each video.
        """
        by_clip = list(zip(*(x["clips"] for x in batched_inputs), strict=True))
        if len(by_clip) < 2:
            raise ConfigError("A method needs at least two clips of a video; for rho = 1, two crops of one clip.")
        for clips in by_clip:
            sizes = sorted({tuple(clip.shape[1:3]) for clip in clips})
            if len(sizes) > 1:
                raise ConfigError(
                    f"Clips of one batch need one size, these have {sizes}: videos of several shapes need a crop "
                    "(INPUT.CROP.TYPE)"
                )
        return [torch.stack(clips).to(self.device, non_blocking=True) for clips in by_clip]


def others(keys: torch.Tensor, i: int) -> torch.Tensor:
    """The keys (rho, B, d) of all clips but the i-th: (rho - 1, B, d), the positives of that clip."""
    return torch.cat([keys[:i], keys[i + 1 :]])
