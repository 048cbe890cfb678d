import torch

from vdet_ssl.layers import FIFOQueue


def numbered(start, stop, dim=2):
    return torch.arange(start, stop, dtype=torch.float32)[:, None].expand(-1, dim)


def test_starts_the_same_whatever_the_seed_and_leaves_the_seed_alone():
    queues, draws = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        queues.append(FIFOQueue(7, 3))
        draws.append(torch.rand(1))
        torch.manual_seed(seed)
        assert torch.equal(torch.rand(1), draws[-1])
    assert torch.equal(queues[0].items, queues[1].items)
    torch.testing.assert_close(queues[0].items.norm(dim=1), torch.ones(7))


def test_first_in_first_out_with_batches_that_do_not_divide_its_size():
    queue, size = FIFOQueue(10, 2), 10
    random = queue.items.clone()
    queue.push(numbered(0, 4))
    assert torch.equal(queue.items, torch.cat([numbered(0, 4), random[4:]]))
    assert not queue.is_full
    pushed = 4
    for batch in (4, 4, 3, 1, 4):
        queue.push(numbered(pushed, pushed + batch))
        pushed += batch
    assert queue.is_full
    oldest_first = queue.items.roll(-(pushed % size), dims=0)
    assert torch.equal(oldest_first, numbered(pushed - size, pushed))


def test_a_batch_larger_than_the_queue_leaves_its_end():
    queue = FIFOQueue(4, 2)
    queue.push(numbered(0, 1))
    queue.push(numbered(1, 12))
    assert sorted(queue.items[:, 0].tolist()) == [8, 9, 10, 11]
    queue.push(numbered(12, 13))
    assert sorted(queue.items[:, 0].tolist()) == [9, 10, 11, 12]


def test_mean_age():
    queue = FIFOQueue(4, 2)
    queue.push(numbered(0, 4))
    assert queue.mean_age() == 1
    queue.push(numbered(4, 6))
    assert queue.mean_age() == (1 + 1 + 2 + 2) / 4
    queue.push(numbered(6, 7))
    assert queue.mean_age() == (1 + 2 + 2 + 3) / 4


def test_survives_a_checkpoint():
    queue, resumed = FIFOQueue(5, 3, 2), FIFOQueue(5, 3, 2)
    queue.push(torch.ones(3, 3, 2))
    resumed.load_state_dict(queue.state_dict())
    for q in (queue, resumed):
        q.push(torch.full((3, 3, 2), 2.0))
    for name, value in queue.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert torch.equal(resumed.items[:, 0, 0], torch.tensor([2.0, 1, 1, 2, 2]))


def test_mean_age_counts_random_items_from_the_start():
    queue = FIFOQueue(4, 2)
    for _ in range(3):
        queue.push(numbered(0, 1))
    assert queue.mean_age() == (1 + 2 + 3 + 4) / 4
