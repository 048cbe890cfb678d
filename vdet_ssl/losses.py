"""The losses of section 3.2: pure functions of tensors, computed in float32 (or wider) under autocast too.

Embeddings need not be normalised: every loss takes the cosine similarity, sim(q, k) = q.k / (|q| |k|).
"""

from functools import wraps

import torch


def l2_normalize(x, eps=1e-8):
    """Scale the last dimension of float (..., d) to length 1; what is shorter than `eps` becomes 0 and gets no gradient.

    A zero vector is thus similar to nothing, where sim(q, k) of the paper is 0 / 0.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(norm < eps, torch.zeros_like(x), x / norm.clamp_min(eps))


def in_float32(function):
    """Decorator: compute a function of tensors in float32 or wider, whatever autocast says; other arguments by keyword."""

    @wraps(function)
    def wrapper(*tensors, **kwargs):
        with torch.autocast(tensors[0].device.type, enabled=False):
            wide = (x if x.dtype == torch.bool else x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors)
            return function(*wide, **kwargs)

    return wrapper


@in_float32
def negative_cosine(queries, positives):
    """Eq. (2), BYOL: L_q = - sum over k+ of sim(q, k+), averaged over the queries.

    PySlowFast takes the mean over the positives instead of the sum; the two are the same for two clips.

    Args:
        queries: float (N, d).
        positives: float (P, N, d), the keys of the P other clips of the same N videos.
    Returns:
        scalar in [-P, P].
    """
    similarity = (l2_normalize(queries) * l2_normalize(positives)).sum(-1)
    return -similarity.sum(0).mean()
