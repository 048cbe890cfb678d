import pytest
import torch
from detectron2.utils import comm

from vdet_ssl.layers import gather, shuffled

SIZES = [3, 2, 3, 1]  # rows of each process


def own_rows(x):
    start = sum(SIZES[: comm.get_rank()])
    return x[start : start + SIZES[comm.get_rank()]]


def batch(world_size):
    rows = sum(SIZES[:world_size])
    return torch.randn(rows, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def gather_uint8(everything):
    rows, own = gather(own_rows(everything))
    return {"rows": rows, "own": rows[own], "expected": own_rows(everything)}


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_rows_of_all_processes_by_rank(run_distributed, world_size):
    everything = (batch(world_size) * 50).to(torch.uint8)
    for result in run_distributed(gather_uint8, world_size, everything):
        assert torch.equal(result["rows"], everything)
        assert torch.equal(result["own"], result["expected"])


def gather_with_gradient(everything):
    x = own_rows(everything).clone().requires_grad_()
    rows, own = gather(x)
    # The sum over this process' rows of their products with all rows.
    (rows[own].flatten(1) @ rows.flatten(1).T).square().sum().backward()
    return x.grad


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_gradient_is_summed_over_processes(run_distributed, world_size):
    everything = batch(world_size)
    grads = run_distributed(gather_with_gradient, world_size, everything)
    x = everything.clone().requires_grad_()
    (x.flatten(1) @ x.flatten(1).T).square().sum().backward()
    torch.testing.assert_close(torch.cat(grads), x.grad, rtol=1e-12, atol=1e-12)


def subtract_mean(x):
    return x - x.mean(dim=0)


def shuffle(everything, seed):
    rows, own = shuffled(subtract_mean, own_rows(everything), seed)
    return {"rows": rows, "own": rows[own], "offset": own.start}


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_each_process_computes_a_random_share_of_the_batch(run_distributed, world_size):
    everything, seed = batch(world_size), 5
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed))
    expected = torch.empty_like(everything)
    for share in order.split(SIZES[:world_size]):
        expected[share] = subtract_mean(everything[share])
    results = run_distributed(shuffle, world_size, everything, seed)
    for rank, result in enumerate(results):
        torch.testing.assert_close(result["rows"], expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(result["own"], result["rows"].split(SIZES[:world_size])[rank])
    if world_size > 1:
        unshuffled = torch.cat([subtract_mean(share) for share in everything.split(SIZES[:world_size])])
        assert not torch.allclose(expected, unshuffled)


def test_seed_changes_the_shares():
    x = torch.arange(64.0)
    orders = []
    for seed in (0, 1):
        shuffled(lambda y: orders.append(y) or y, x, seed)
    assert not torch.equal(*orders)
    assert all(torch.equal(order.sort().values, x) for order in orders)
