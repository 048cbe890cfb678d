"""The Sinkhorn-Knopp iterations of SwAV (eq. (3), B.1)."""

import torch


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Assign samples to prototypes so that each prototype gets the same fraction of all of them.

    In log space, in float32 or wider; there is nothing to synchronise, as `scores` are those of the full batch.

    Args:
        scores: float (N, K), similarity of N samples and K prototypes.
        epsilon: the smaller, the closer to one prototype for each sample.
        iterations: at least 1.
    Returns:
        float (N, K), each row sums to 1.
    """
    log_q = scores.to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
    for _ in range(iterations):
        log_q = log_q.log_softmax(dim=0).log_softmax(dim=1)
    return log_q.exp()
