"""The losses of section 3.2: pure functions of tensors, computed in float32 (or wider) under autocast too.

Embeddings need not be normalised: every loss takes the cosine similarity, sim(q, k) = q.k / (|q| |k|).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch.nn.functional import softplus

P = ParamSpec("P")
R = TypeVar("R")


def l2_normalize(x: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Scale the last dimension of float (..., d) to length 1; what is shorter than `eps` becomes 0 and gets no gradient.

    A zero vector is thus similar to nothing, where sim(q, k) of the paper is 0 / 0.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(norm < eps, torch.zeros_like(x), x / norm.clamp_min(eps))


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: compute a function of tensors in float32 or wider, whatever autocast says; other arguments by keyword."""

    @wraps(function)
    def wrapper(*tensors: Any, **kwargs: Any) -> R:
        with torch.autocast(tensors[0].device.type, enabled=False):
            wide = (x if x.dtype == torch.bool else x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors)
            return function(*wide, **kwargs)

    return wrapper


@in_float32
def negative_cosine(queries: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
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


@in_float32
def info_nce(
    queries: torch.Tensor,
    keys: torch.Tensor,
    positive: torch.Tensor,
    negative: torch.Tensor,
    *,
    temperature: float,
    multiple_positives: str,
) -> torch.Tensor:
    """Eq. (1), MoCo and SimCLR, averaged over the queries:

        L_q = - log( sum over k+ of exp(sim(q, k) / alpha)  /  sum over k+ and k- of exp(sim(q, k) / alpha) ).

    Args:
        queries: float (N, d).
        keys: float (M, d).
        positive, negative: bool (N, M), what each key is to each query; neither: the key is left out.  Every query needs
            at least one of each.
        temperature: alpha.
        multiple_positives: "sum" is the equation: one softmax, the positives summed in its numerator.  "mean" is what
            PySlowFast does: the mean over one softmax per positive, with that positive alone beside the negatives.
    Returns:
        scalar >= 0.
    Raises:
        ValueError: `multiple_positives` is another word.
    """
    logits = l2_normalize(queries) @ l2_normalize(keys).T / temperature
    negatives = logits.masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
    if multiple_positives == "sum":
        positives = logits.masked_fill(~positive, -torch.inf).logsumexp(dim=1, keepdim=True)
        return softplus(negatives - positives).mean()
    if multiple_positives == "mean":
        per_positive = softplus(negatives - logits) * positive
        return (per_positive.sum(dim=1) / positive.sum(dim=1)).mean()
    raise ValueError(f'multiple_positives is {multiple_positives!r}; it is "sum" (the equation) or "mean" (PySlowFast)')


@in_float32
def swapped_prediction(scores: torch.Tensor, targets: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Eq. (3), SwAV, averaged over the queries: every clip predicts the prototypes of each other clip of its video.

    It is the cross-entropy of SwAV [9] and of PySlowFast: D_KL(target || prediction) plus the entropy of the target,
    through which no gradient flows.  The mean over the rho - 1 targets is taken.

    Args:
        scores: float (rho, B, K), similarity of B videos' clips and K prototypes; the prediction is the softmax of
            scores / temperature.
        targets: float (rho, B, K), Sinkhorn-Knopp assignments, rows sum to 1.
    Returns:
        scalar >= 0.
    """
    log_predictions = (scores / temperature).log_softmax(dim=-1)
    cross_entropy = -torch.einsum("ibk,jbk->ij", log_predictions, targets)
    num_pairs = len(scores) * (len(scores) - 1)
    return (cross_entropy.sum() - cross_entropy.trace()) / (num_pairs * scores.shape[1])
