"""What `color` does clip by clip, for a batch of clips on any device, with the same parameters (section 4.5, B.1).

Inside, clips are float32 (N, 3, T, H, W) in whole grey levels: each step is rounded as on the CPU, so that the two
differ by no more than rounding does.
"""

import torch
import torch.nn.functional as F

from vdet_ssl.data.transforms.color import LUMA, blur_radius

CLIPS_AT_ONCE = 32  # bounds the memory taken: 154 MB of float32 for 8 x 224 x 224, and some temporaries of that size


def augment_batch(batched_inputs, device):
    """Finish on `device` the augmentation of clips that the loader has only cropped (INPUT.AUGMENTATION_DEVICE "model").

    Args:
        batched_inputs: list[dict], each with "clips": list of uint8 tensors (T, H, W, 3), all of one shape, and
            "augmentations": list of `Augmentation`, one for each clip.
        device: where to compute.
    Returns:
        list[dict]: the same with "clips" on `device`, augmented, and without "augmentations".
    """
    clips = [clip for x in batched_inputs for clip in x["clips"]]
    drawn = [augmentation for x in batched_inputs for augmentation in x["augmentations"]]
    done = []
    for first in range(0, len(clips), CLIPS_AT_ONCE):
        chunk = slice(first, first + CLIPS_AT_ONCE)
        done += recolor_clips(torch.stack(clips[chunk]).to(device, non_blocking=True), drawn[chunk]).unbind()
    done = iter(done)
    outputs = []
    for x in batched_inputs:
        outputs.append({**x, "clips": [next(done) for _ in x["clips"]]})
        del outputs[-1]["augmentations"]
    return outputs


@torch.no_grad()
def recolor_clips(clips, augmentations):
    """Apply all of each augmentation but its crop.

    Args:
        clips: uint8 (N, T, H, W, 3) RGB.
        augmentations: N `Augmentation`s.
    Returns:
        uint8 (N, T, H, W, 3)
    """
    x = clips.movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format)
    gray = [a.grayscale or a.temporal_difference for a in augmentations]
    _change(x, [a.flip for a in augmentations], lambda part: part.flip(-1))
    for step in range(max(len(a.jitter) for a in augmentations)):
        names = [a.jitter[step][0] if a.jitter else "" for a in augmentations]
        values = [a.jitter[step][1] if a.jitter else 0.0 for a in augmentations]
        for name, adjust in ADJUSTMENTS.items():
            _change(x, [n == name for n in names], adjust, values)
    _change(x, gray, _to_gray)
    _change(x, [a.temporal_difference for a in augmentations], _temporal_difference)
    sigmas = [a.blur_sigma for a in augmentations]
    _change(x, [sigma > 0 for sigma in sigmas], _gaussian_blur, sigmas)
    return x.to(torch.uint8).movedim(1, -1).contiguous()


def _change(x, chosen, function, values=None):
    """Replace the chosen clips by `function` of them (and of their values), in whole grey levels."""
    index = [i for i, is_chosen in enumerate(chosen) if is_chosen]
    if not index:
        return
    args = () if values is None else (x.new_tensor([values[i] for i in index]).view(-1, 1, 1, 1, 1),)
    index = torch.tensor(index, device=x.device)
    x[index] = function(x[index], *args).clamp_(0, 255).round_()


def _luma(x):
    return (x * x.new_tensor(LUMA).view(3, 1, 1, 1)).sum(1, keepdim=True)


def _adjust_brightness(x, factor):
    return factor * x


def _adjust_contrast(x, factor):
    return factor * x + (1 - factor) * _luma(x).mean((1, 2, 3, 4), keepdim=True)


def _adjust_saturation(x, factor):
    return factor * x + (1 - factor) * _luma(x)


def _adjust_hue(x, shift):
    r, g, b = x.split(1, dim=1)
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    sixth = torch.where(value == r, g - b, torch.where(value == g, b - r, r - g)) / chroma.clamp(min=1)
    sixth += torch.where(value == r, 0, torch.where(value == g, 2, 4)) + 6 * shift
    # A channel is `value` on the third of the circle around its own hue, `value - chroma` on the opposite third.
    distance = (sixth - sixth.new_tensor([0, 2, 4]).view(3, 1, 1, 1) + 3).remainder(6).sub(3).abs()
    return value - chroma * (distance - 1).clamp(0, 1)


def _to_gray(x):
    return _luma(x).expand_as(x).clone()


def _temporal_difference(x):
    """See `color.temporal_difference`."""
    difference = torch.full_like(x, 128.0)
    difference[:, :, :-1] += (x[:, :, :-1] - x[:, :, 1:]) / 2
    if x.shape[2] > 1:
        difference[:, :, -1] = difference[:, :, -2]
    return difference


def _gaussian_blur(x, sigma):
    radius = blur_radius(sigma.max().item())
    offsets = torch.arange(-radius, radius + 1, device=x.device)
    kernels = torch.exp(-0.5 * (offsets / sigma.view(-1, 1)) ** 2)
    kernels /= kernels.sum(1, keepdim=True)
    blurred = _blur_rows(x, kernels).transpose(-1, -2)
    return _blur_rows(blurred, kernels).transpose(-1, -2)


def _blur_rows(x, kernels):
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
