"""What `color` does clip by clip, for a batch of clips on any device, with the same parameters (section 4.5, B.1).

Inside, clips are float32 (N, 3, T, H, W) in whole grey levels: each step is rounded as on the CPU, so that the two
differ by no more than rounding does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vdet_ssl.data.transforms.color import LUMA, blur_radius
from vdet_ssl.data.transforms.transform import ClipTransform

CLIPS_AT_ONCE = 32  # bounds the memory taken: 154 MB of float32 for 8 x 224 x 224, and some temporaries of that size


def augment_batch(batched_inputs: list[dict[str, Any]], device: torch.device | str) -> list[dict[str, Any]]:
    """Finish on `device` the augmentation of clips that the loader has only cropped (INPUT.AUGMENTATION_DEVICE "model").

    Args:
        batched_inputs: list[dict], each with "clips": list of uint8 tensors (T, H, W, 3), all of one shape, and
            "transforms": list of `ClipTransform`, one for each clip.
        device: where to compute.
    Returns:
        list[dict]: the same with "clips" on `device`, augmented, and without "transforms".
    """
    clips = [clip for x in batched_inputs for clip in x["clips"]]
    transforms = [transform for x in batched_inputs for transform in x["transforms"]]
    done: list[Tensor] = []
    for first in range(0, len(clips), CLIPS_AT_ONCE):
        chunk = slice(first, first + CLIPS_AT_ONCE)
        done += apply_after_crop(torch.stack(clips[chunk]).to(device, non_blocking=True), transforms[chunk]).unbind()
    in_order = iter(done)
    outputs = []
    for x in batched_inputs:
        outputs.append({**x, "clips": [next(in_order) for _ in x["clips"]]})
        del outputs[-1]["transforms"]
    return outputs


@torch.no_grad()
def apply_after_crop(clips: Tensor, transforms: Sequence[ClipTransform]) -> Tensor:
    """Do what `ClipTransform.apply_after_crop` does, to N clips at once: all but the crop.

    Args:
        clips: uint8 (N, T, H, W, 3) RGB.
        transforms: N of them.
    Returns:
        uint8 (N, T, H, W, 3)
    """
    x = clips.movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format)
    gray = [t.grayscale or t.temporal_difference for t in transforms]
    _change(x, [t.flip for t in transforms], lambda part: part.flip(-1))
    for step in range(max(len(t.jitter) for t in transforms)):
        names = [t.jitter[step][0] if t.jitter else "" for t in transforms]
        values = [t.jitter[step][1] if t.jitter else 0.0 for t in transforms]
        for name, adjust in ADJUSTMENTS.items():
            _change(x, [n == name for n in names], adjust, values)
    _change(x, gray, _to_gray)
    _change(x, [t.temporal_difference for t in transforms], _temporal_difference)
    sigmas = [t.blur_sigma for t in transforms]
    _change(x, [sigma > 0 for sigma in sigmas], _gaussian_blur, sigmas)
    return x.to(torch.uint8).movedim(1, -1).contiguous()


def _change(
    x: Tensor, chosen: Sequence[bool], function: Callable[..., Tensor], values: Sequence[float] | None = None
) -> None:
    """Replace the chosen clips by `function` of them (and of their values), in whole grey levels."""
    positions = [i for i, is_chosen in enumerate(chosen) if is_chosen]
    if not positions:
        return
    args = () if values is None else (x.new_tensor([values[i] for i in positions]).view(-1, 1, 1, 1, 1),)
    index = torch.tensor(positions, device=x.device)
    x[index] = function(x[index], *args).clamp_(0, 255).round_()


def _luma(x: Tensor) -> Tensor:
    return (x * x.new_tensor(LUMA).view(3, 1, 1, 1)).sum(1, keepdim=True)


def _adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    return factor * x


def _adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    return factor * x + (1 - factor) * _luma(x).mean((1, 2, 3, 4), keepdim=True)


def _adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    return factor * x + (1 - factor) * _luma(x)


def _adjust_hue(x: Tensor, shift: Tensor) -> Tensor:
    r, g, b = x.split(1, dim=1)
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    sixth = torch.where(value == r, g - b, torch.where(value == g, b - r, r - g)) / chroma.clamp(min=1)
    sixth += torch.where(value == r, 0, torch.where(value == g, 2, 4)) + 6 * shift
    # A channel is `value` on the third of the circle around its own hue, `value - chroma` on the opposite third.
    distance = (sixth - sixth.new_tensor([0, 2, 4]).view(3, 1, 1, 1) + 3).remainder(6).sub(3).abs()
    return value - chroma * (distance - 1).clamp(0, 1)


def _to_gray(x: Tensor) -> Tensor:
    return _luma(x).expand_as(x).clone()


def _temporal_difference(x: Tensor) -> Tensor:
    """See `color.temporal_difference`."""
    difference = torch.full_like(x, 128.0)
    difference[:, :, :-1] += (x[:, :, :-1] - x[:, :, 1:]) / 2
    if x.shape[2] > 1:
        difference[:, :, -1] = difference[:, :, -2]
    return difference


def _gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    radius = blur_radius(sigma.max().item())
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    kernels = torch.exp(-0.5 * (offsets / sigma.view(-1, 1)) ** 2)
    kernels /= kernels.sum(1, keepdim=True)
    blurred = _blur_rows(x, kernels).transpose(-1, -2)
    return _blur_rows(blurred, kernels).transpose(-1, -2)


def _blur_rows(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve the last dimension of each clip with its own kernel (N, 2 * radius + 1)."""
    radius = kernels.shape[1] // 2
    rows = F.pad(x.reshape(1, len(x), -1, x.shape[-1]), (radius, radius, 0, 0), mode="reflect")
    return F.conv2d(rows, kernels[:, None, None], groups=len(x)).view(x.shape)


ADJUSTMENTS = {
    "brightness": _adjust_brightness,
    "contrast": _adjust_contrast,
    "saturation": _adjust_saturation,
    "hue": _adjust_hue,
}
