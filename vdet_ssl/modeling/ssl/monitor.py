"""What shows that a method collapses or diverges, into detectron2's event storage; outside of training, nothing happens."""

import math

import torch
from detectron2.utils import events

from vdet_ssl.losses import in_float32, l2_normalize


def put_scalars(**scalars: torch.Tensor | float) -> None:
    """Put 0-d tensors or numbers into the current event storage; where there is none, do nothing."""
    if events._CURRENT_STORAGE_STACK:  # detectron2 0.6 has no has_event_storage()
        values = torch.stack([torch.as_tensor(v, dtype=torch.float32) for v in scalars.values()])
        events.get_event_storage().put_scalars(**dict(zip(scalars, values.tolist(), strict=True)))


@torch.no_grad()
@in_float32
def monitor_embeddings(queries: torch.Tensor, positives: torch.Tensor) -> None:
    """Record the spread of the embeddings and how similar they are to those of the same and of other videos.

    - embedding/std: standard deviation of the normalised queries over this process' videos, mean over the d dimensions:
      about 1 / sqrt(d) where they fill the sphere, 0 where they have collapsed to a point.
    - embedding/positive_similarity, embedding/negative_similarity: mean cosine with clips of the same, of other videos.

    Args:
        queries: float (N, d).
        positives: float (P, N, d).
    """
    queries, positives = l2_normalize(queries), l2_normalize(positives)
    same = (queries * positives).sum(-1)
    scalars = {
        "embedding/std": queries.std(dim=0, correction=0).mean(),
        "embedding/positive_similarity": same.mean(),
    }
    if len(queries) > 1:
        every = torch.einsum("nd,pmd->", queries, positives)
        scalars["embedding/negative_similarity"] = (every - same.sum()) / (same.numel() * (len(queries) - 1))
    put_scalars(**scalars)


@torch.no_grad()
def monitor_prototypes(scores: torch.Tensor, temperature: float) -> None:
    """Record how much of SwAV's prototypes is in use.

    - prototypes/entropy: entropy of the mean prediction, as a fraction of that of the uniform distribution.
    - prototypes/used: number of prototypes that are some sample's most likely one, as a fraction of all there could be.

    Args:
        scores: float (N, K), similarity of samples and prototypes.
    """
    num_samples, num_prototypes = scores.shape
    mean_prediction = (scores / temperature).softmax(dim=1).mean(dim=0)
    used = torch.zeros(num_prototypes, device=scores.device).index_fill(0, scores.argmax(dim=1), 1.0).sum()
    put_scalars(
        **{
            "prototypes/entropy": torch.special.entr(mean_prediction).sum() / math.log(num_prototypes),
            "prototypes/used": used / min(num_samples, num_prototypes),
        }
    )
