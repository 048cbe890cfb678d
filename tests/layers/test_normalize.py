import torch

from vdet_ssl.layers import ClipNormalizer


def test_each_channel_by_its_own_mean_and_deviation():
    normalize = ClipNormalizer([1.0, 2.0, 3.0], [2.0, 4.0, 5.0])
    clips = torch.randint(0, 256, (2, 4, 5, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normalized = normalize(clips)
    assert normalized.shape == (2, 3, 4, 5, 6) and normalized.dtype == torch.float32
    for channel, (mean, std) in enumerate([(1.0, 2.0), (2.0, 4.0), (3.0, 5.0)]):
        torch.testing.assert_close(normalized[:, channel], (clips[..., channel].float() - mean) / std)
    assert normalized.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(normalize(clips[0]), normalized[0])


def test_it_moves_with_a_model_but_is_not_in_its_state_dict():
    normalize = ClipNormalizer([1.0], [2.0])
    assert not normalize.state_dict()
    assert normalize.double()(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)).dtype == torch.float64
