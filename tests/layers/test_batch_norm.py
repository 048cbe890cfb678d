import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from vdet_ssl.config import get_cfg
from vdet_ssl.errors import ConfigError
from vdet_ssl.layers import BatchNorm, FrozenBatchNorm, norm_factory

C = 5
SHAPES = [(8, C), (8, C, 4), (8, C, 2, 3, 4)]


def batch_norm(group_size=0, num_sync_devices=1, seed=0):
    torch.manual_seed(seed)
    norm = BatchNorm(C, eps=1e-5, momentum=0.3, group_size=group_size, num_sync_devices=num_sync_devices).double()
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias)
    return norm


def naive_batch_norm(norm, groups):
    """Each group of samples normalised from the definition; running statistics averaged over the groups."""
    outputs, means, variances = [], [], []
    for x in groups:
        values = x.transpose(0, 1).flatten(1)
        shape = 1, -1, *[1] * (x.dim() - 2)
        means.append(values.mean(1))
        variances.append(((values - means[-1][:, None]) ** 2).sum(1))
        std = (variances[-1] / values.shape[1] + norm.eps).sqrt()
        outputs.append((x - means[-1].view(shape)) / std.view(shape) * norm.weight.view(shape) + norm.bias.view(shape))
        variances[-1] = variances[-1] / (values.shape[1] - 1)
    mean, var = (torch.stack(stats).mean(0).detach() for stats in (means, variances))
    return torch.cat(outputs), 0.7 * norm.running_mean + 0.3 * mean, 0.7 * norm.running_var + 0.3 * var


def clip(shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3 + 1


def run(norm, x, grad):
    """Return outputs, the three gradients and the running statistics."""
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * grad).sum().backward()
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


@pytest.mark.parametrize("shape", SHAPES)
def test_in_one_process_it_is_torchs(shape):
    norm = batch_norm()
    reference = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 5: nn.BatchNorm3d}[len(shape)](C, momentum=0.3).double()
    reference.load_state_dict(norm.state_dict())
    x, grad = clip(shape), clip(shape, seed=2)
    for ours, theirs in zip(run(norm, x, grad), run(reference, x, grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close(norm.eval()(x), reference.eval()(x), rtol=0, atol=0)
    assert norm.state_dict().keys() == reference.state_dict().keys()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("group_size", [0, 2, 4, 8, 16])
def test_groups_of_samples_equal_the_definition(shape, group_size):
    norm = batch_norm(group_size)
    reference = batch_norm()
    x, grad = clip(shape).requires_grad_(), clip(shape, seed=2)
    y, mean, var = naive_batch_norm(reference, x.split(group_size or 8))
    (y * grad).sum().backward()
    expected = [y, x.grad, reference.weight.grad, reference.bias.grad, mean, var]
    for ours, naive in zip(run(norm, x.detach(), grad), expected, strict=True):
        torch.testing.assert_close(ours, naive)
    assert norm.num_batches_tracked == 1


def test_samples_that_do_not_fall_into_groups_are_refused():
    with pytest.raises(ConfigError, match="8 samples .*GROUP_SIZE 3"):
        batch_norm(group_size=3)(clip((8, C)))
    assert batch_norm(group_size=3).eval()(clip((8, C))).shape == (8, C)


def test_both_kinds_of_groups_are_refused():
    with pytest.raises(ConfigError, match="exclude each other"):
        batch_norm(group_size=2, num_sync_devices=2)


def test_input_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"\(N, C, \*\)"):
        batch_norm()(clip((8,)))


def test_more_processes_than_there_are():
    x, grad = clip((8, C, 3)), clip((8, C, 3), seed=2)
    for many, one in zip(run(batch_norm(num_sync_devices=8), x, grad), run(batch_norm(), x, grad), strict=True):
        torch.testing.assert_close(many, one, rtol=0, atol=0)


def _synchronized(split, num_sync_devices):
    x, grad = (clip(SHAPES[-1], seed).split(split)[dist.get_rank()] for seed in (1, 2))
    norm = batch_norm(num_sync_devices=num_sync_devices)
    results = run(norm, x, grad)
    norm.zero_grad()
    return results, run(copy.deepcopy(norm), x, grad)  # copied as a momentum encoder is: it still finds its group


def _two():
    return [_synchronized(split, num_sync_devices=8) for split in [(4, 4), (1, 7), (0, 8)]]


def _four():
    with pytest.raises(ConfigError, match="4 processes .*NUM_SYNC_DEVICES 3"):
        batch_norm(num_sync_devices=3)
    return _synchronized(split=2, num_sync_devices=2)


def assert_halves_equal(first, second, norm, x, grad):
    y, x_grad, weight_grad, bias_grad, *stats = run(norm, x, grad)
    torch.testing.assert_close(torch.cat([first[0], second[0]]), y)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), x_grad)
    torch.testing.assert_close(first[2] + second[2], weight_grad)
    torch.testing.assert_close(first[3] + second[3], bias_grad)
    for half in (first, second):
        torch.testing.assert_close(half[4:], stats)


def test_two_processes_equal_one_whatever_their_shares(run_distributed):
    x, grad = (clip(SHAPES[-1], seed) for seed in (1, 2))
    for first, second in zip(*run_distributed(_two, 2), strict=True):
        norm = batch_norm()
        for step in range(2):
            norm.zero_grad()
            assert_halves_equal(first[step], second[step], norm, x, grad)


def test_groups_of_two_of_four_processes(run_distributed):
    first, second, third, fourth = (results[0] for results in run_distributed(_four, 4))
    (x, other_x), (grad, other_grad) = (clip(SHAPES[-1], seed).split(4) for seed in (1, 2))
    assert_halves_equal(first, second, batch_norm(), x, grad)
    assert_halves_equal(third, fourth, batch_norm(), other_x, other_grad)


@pytest.mark.parametrize("shape", SHAPES)
def test_frozen(shape):
    norm = batch_norm()
    run(norm, clip(shape), clip(shape, seed=2))
    norm.eval()
    frozen = FrozenBatchNorm.convert_frozen_batchnorm(nn.Sequential(copy.deepcopy(norm)))[0].train()
    assert isinstance(frozen, FrozenBatchNorm) and not list(frozen.parameters())
    x, grad = clip(shape, seed=3), clip(shape, seed=4)
    expected = run(norm, x, grad)
    x.requires_grad_()
    y = frozen(x)
    y.backward(grad)
    torch.testing.assert_close(y, expected[0])
    torch.testing.assert_close(x.grad, expected[1])
    torch.testing.assert_close(frozen(x.detach()), expected[0])


def test_factory():
    cfg = get_cfg()
    cfg.MODEL.BN.merge_from_list(["GROUP_SIZE", 4, "EPS", 0.5, "MOMENTUM", 0.25])
    norm = norm_factory("BN", cfg.MODEL.BN)(7)
    assert isinstance(norm, BatchNorm)
    assert (norm.num_features, norm.eps, norm.momentum) == (7, 0.5, 0.25)
    assert (norm.group_size, norm.num_sync_devices) == (4, 1)
    assert norm_factory("FrozenBN", cfg.MODEL.BN)(7).eps == 0.5
    assert norm_factory("", cfg.MODEL.BN) is None
    with pytest.raises(ConfigError, match="GN"):
        norm_factory("GN", cfg.MODEL.BN)
