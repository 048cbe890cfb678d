def normalize_clip(clip, mean, std):
    """Make clips of grey levels what a backbone takes.

    Args:
        clip: uint8 (..., T, H, W, 3).
        mean, std: float (3,), grey levels 0..255.
    Returns:
        (clip - mean) / std, of the dtype of mean, (..., 3, T, H, W), channels last in memory.
    """
    return clip.sub(mean).div_(std).movedim(-1, -4)
