import pytest
import torch

from vdet_ssl.layers import sinkhorn

EPSILON = 0.05


def scores(num_samples, num_prototypes):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_samples, num_prototypes, generator=generator, dtype=torch.float64) * 2 - 1


def naive_sinkhorn(scores, iterations):
    """Rows of a (K, N) matrix of total mass 1 are scaled to sum to 1 / K each, then its columns to 1 / N, in turn."""
    num_samples, num_prototypes = scores.shape
    q = [[torch.exp(scores[n, k] / EPSILON) for n in range(num_samples)] for k in range(num_prototypes)]
    for _ in range(iterations):
        for k in range(num_prototypes):
            total = sum(q[k])
            q[k] = [value / total / num_prototypes for value in q[k]]
        for n in range(num_samples):
            total = sum(q[k][n] for k in range(num_prototypes))
            for k in range(num_prototypes):
                q[k][n] = q[k][n] / total / num_samples
    return num_samples * torch.stack([torch.stack(row) for row in q]).T


@pytest.mark.parametrize("iterations", [1, 3])
def test_is_the_scaling_of_rows_and_columns_in_turn(iterations):
    x = scores(6, 4)
    torch.testing.assert_close(sinkhorn(x, EPSILON, iterations), naive_sinkhorn(x, iterations), rtol=1e-10, atol=1e-12)


def test_many_iterations_use_each_prototype_equally():
    q = sinkhorn(scores(12, 4), EPSILON, 500)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(q.sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64), rtol=1e-3, atol=0)


def test_finite_where_exp_of_the_scores_is_not():
    x = scores(8, 3).float()
    q = sinkhorn(x, 1e-3, 3)
    assert q.isfinite().all()
    # float32 logarithms of up to 2000 are known to 1e-4.
    torch.testing.assert_close(q.sum(dim=1), torch.ones(8), rtol=0, atol=1e-3)


def test_half_precision_scores_are_widened():
    assert sinkhorn(scores(4, 3).bfloat16(), EPSILON, 3).dtype == torch.float32
