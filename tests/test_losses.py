"""The losses against loops over samples written from the paper's equations, in float64, with their gradients."""

import pytest
import torch

from vdet_ssl.losses import info_nce, l2_normalize, negative_cosine, swapped_prediction

NUM_VIDEOS, DIM, ALPHA = 4, 5, 0.1


def embeddings(*shape, seed=0, degenerate=False):
    """Random vectors; degenerate: the first of each last-but-one dimension is 0."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if degenerate:
        x[..., 0, :] = 0
    return x.requires_grad_()


def sim(q, k):
    if not q.any() or not k.any():
        return q.new_zeros(())  # 0 / 0 in the paper
    return sum(a * b for a, b in zip(q, k, strict=True)) / (sum(a * a for a in q) * sum(b * b for b in k)) ** 0.5


def naive_byol(queries, positives):
    """Eq. (2)."""
    total = 0
    for n, q in enumerate(queries):
        for keys in positives:
            total = total - sim(q, keys[n])
    return total / len(queries)


def naive_info_nce(q, positives, negatives, mode):
    """Eq. (1) of one query; or the mean over its positives, each alone."""
    if mode == "mean":
        return sum(naive_info_nce(q, [k], negatives, "sum") for k in positives) / len(positives)
    numerator = sum(torch.exp(sim(q, k) / ALPHA) for k in positives)
    return -torch.log(numerator / (numerator + sum(torch.exp(sim(q, k) / ALPHA) for k in negatives)))


def assert_same(loss, expected, inputs):
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    grads = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    expected_grads = torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert grad.isfinite().all()
        torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("degenerate", [False, True])
@pytest.mark.parametrize("num_positives", [1, 2, 3])
def test_byol_is_equation_2(num_positives, degenerate):
    q = embeddings(NUM_VIDEOS, DIM, degenerate=degenerate)
    k = embeddings(num_positives, NUM_VIDEOS, DIM, seed=1, degenerate=degenerate)
    assert_same(negative_cosine(q, k), naive_byol(q, k), [q, k])


def test_twice_equation_2_is_byols_squared_distance():
    q, k = embeddings(NUM_VIDEOS, DIM), embeddings(1, NUM_VIDEOS, DIM, seed=1)
    distance = (l2_normalize(q) - l2_normalize(k[0])).square().sum(1).mean()
    torch.testing.assert_close(2 * negative_cosine(q, k) + 2, distance)


@pytest.mark.parametrize("degenerate", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("num_positives", [1, 2, 3])
def test_info_nce_is_equation_1(num_positives, mode, degenerate):
    q = embeddings(NUM_VIDEOS, DIM, degenerate=degenerate)
    k = embeddings(12, DIM, seed=1, degenerate=degenerate)
    order = torch.rand(NUM_VIDEOS, 12, generator=torch.Generator().manual_seed(2)).argsort(dim=1)
    positive, negative = order < num_positives, order >= 5  # ranks in between are left out
    loss = info_nce(q, k, positive, negative, temperature=ALPHA, multiple_positives=mode)
    expected = [naive_info_nce(q[n], k[positive[n]], k[negative[n]], mode) for n in range(NUM_VIDEOS)]
    assert_same(loss, sum(expected) / NUM_VIDEOS, [q, k])


def test_info_nce_refuses_another_mode():
    q = embeddings(1, DIM)
    with pytest.raises(ValueError, match="'max'"):
        info_nce(q, q, torch.ones(1, 1).bool(), torch.ones(1, 1).bool(), temperature=ALPHA, multiple_positives="max")


@pytest.mark.parametrize("num_clips", [2, 3, 4])
def test_swapped_prediction_is_equation_3_but_for_the_targets_entropy(num_clips):
    scores = embeddings(num_clips, NUM_VIDEOS, DIM)
    targets = embeddings(num_clips, NUM_VIDEOS, DIM, seed=1).detach().softmax(-1)
    divergence = entropy = 0
    for n in range(NUM_VIDEOS):
        for i in range(num_clips):
            q = torch.exp(scores[i, n] / ALPHA) / sum(torch.exp(s / ALPHA) for s in scores[i, n])
            for j in range(num_clips):
                if i != j:
                    divergence = divergence + sum(t * torch.log(t / p) for t, p in zip(targets[j, n], q, strict=True))
                    entropy = entropy - sum(t * torch.log(t) for t in targets[j, n])
    expected = (divergence + entropy) / (NUM_VIDEOS * num_clips * (num_clips - 1))
    assert_same(swapped_prediction(scores, targets, temperature=ALPHA), expected, [scores])


def test_a_zero_vector_gets_no_gradient():
    x = torch.zeros(2, 3, requires_grad=True)
    l2_normalize(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros(2, 3))


def test_losses_are_in_float32_under_autocast():
    q, k = embeddings(8, 64).detach().float(), embeddings(2, 8, 64, seed=1).detach().float()
    mask = torch.eye(8, dtype=torch.bool)

    def losses():
        return torch.stack(
            [
                negative_cosine(q, k),
                info_nce(q, k[0], mask, ~mask, temperature=ALPHA, multiple_positives="sum"),
                swapped_prediction(k, k.softmax(-1), temperature=ALPHA),
            ]
        )

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (q @ k[0].T).dtype == torch.bfloat16
        under_autocast = losses()
    torch.testing.assert_close(under_autocast, losses())  # bfloat16 is off by 1e-3
    assert negative_cosine(q.bfloat16(), k.bfloat16()).dtype == torch.float32
