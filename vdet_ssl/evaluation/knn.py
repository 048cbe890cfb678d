"""kNN accuracy of frozen features: how good a backbone is, without training anything on it."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from vdet_ssl.data.records import Record
from vdet_ssl.errors import DataError

Features = tuple[torch.Tensor, torch.Tensor]
"""Features of videos, float32 (N, C), and their labels, int64 (N,)."""

_QUERIES_AT_ONCE = 1024

logger = logging.getLogger(__name__)


class FeatureCollector(DatasetEvaluator):
    """Collects what a self-supervised method returns in eval mode, with the labels of the videos."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._features: list[torch.Tensor] = []
        self._labels: list[int] = []

    def process(self, inputs: Sequence[Record], outputs: Sequence[dict[str, Any]]) -> None:
        """Take inputs with "label" and "file_name", and outputs with "features", float32 (C,).

        Raises:
            DataError: a video has no label.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            if "label" not in sample:
                raise DataError(f"{sample['file_name']} has no label in its data set: kNN accuracy needs labels")
            self._features.append(output["features"].cpu())
            self._labels.append(sample["label"])

    def evaluate(self) -> Features | None:
        """Return features and labels of all processes, on the main process; elsewhere None."""
        own = (torch.stack(self._features), torch.tensor(self._labels)) if self._labels else None
        gathered = [part for part in comm.gather(own) if part is not None]
        return _concatenated(gathered) if comm.is_main_process() else None


class KNNEvaluator(DatasetEvaluator):
    """Accuracy of a vote of the k nearest videos, by cosine of pooled features, weighted with exp(cosine / temperature).

    Neighbours come from the bank, other labelled videos; without one, from the other videos of the data set itself.
    Labels are any integers; how many classes there are follows from them.
    """

    def __init__(
        self,
        *,
        bank_loaders: Sequence[Iterable[list[Record]]],
        k: int,
        temperature: float,
        device: str | torch.device,
    ) -> None:
        """Make an evaluator of one data set.

        Args:
            bank_loaders: loaders of the bank's data sets; none: leave one out.
            k: neighbours; fewer where the bank is smaller.
            temperature: of the weights.
            device: where distances are computed.
        """
        self.bank_loaders = bank_loaders
        self.k = k
        self.temperature = temperature
        self.device = device
        self._bank: Features | None = None
        self._collector = FeatureCollector()

    def fill_bank(self, model: nn.Module) -> None:
        """Compute the bank's features with `model`; on all processes, before the evaluation."""
        banks = [inference_on_dataset(model, loader, FeatureCollector()) for loader in self.bank_loaders]
        if banks and comm.is_main_process():
            self._bank = _concatenated(banks)

    def reset(self) -> None:
        self._collector.reset()

    def process(self, inputs: Sequence[Record], outputs: Sequence[dict[str, Any]]) -> None:
        """See `FeatureCollector.process`."""
        self._collector.process(inputs, outputs)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return {"knn": {"top1": accuracy, "top5": accuracy}} in %, on the main process; "top5" from six classes on."""
        collected = self._collector.evaluate()
        if collected is None:
            return None
        features, labels = collected
        bank_features, bank_labels = collected if self._bank is None else self._bank
        classes, indices = torch.cat([labels, bank_labels]).unique(return_inverse=True)
        targets, bank_targets = indices.split([len(labels), len(bank_labels)])
        logger.info(f"kNN: {len(labels)} videos, {len(bank_labels)} in the bank, {len(classes)} classes")
        scores = knn_scores(
            features.to(self.device),
            bank_features.to(self.device),
            bank_targets.to(self.device),
            num_classes=len(classes),
            k=self.k,
            temperature=self.temperature,
            leave_one_out=self._bank is None,
        ).cpu()
        accuracy = {}
        for n in (1, 5) if len(classes) > 5 else (1,):
            hits = (scores.topk(n).indices == targets[:, None]).any(dim=1)
            accuracy[f"top{n}"] = 100 * hits.float().mean().item()
        return {"knn": accuracy}


def _concatenated(parts: Sequence[Features]) -> Features:
    features, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return features, labels


def knn_scores(
    queries: torch.Tensor,
    bank: torch.Tensor,
    bank_targets: torch.Tensor,
    *,
    num_classes: int,
    k: int,
    temperature: float,
    leave_one_out: bool,
) -> torch.Tensor:
    """Return the votes for each class, float (N, num_classes): sum of exp(cosine / temperature) over the k nearest.

    Args:
        queries: float (N, C).
        bank: float (M, C).
        bank_targets: int64 (M,), classes in [0, num_classes).
        k, temperature: as in `KNNEvaluator`.
        leave_one_out: queries and bank are the same videos in the same order, and none is its own neighbour.
    """
    queries, bank = F.normalize(queries, dim=1), F.normalize(bank, dim=1)
    k = min(k, len(bank) - leave_one_out)
    chunks = []
    for i, some in enumerate(queries.split(_QUERIES_AT_ONCE)):
        similarity = some @ bank.T
        if leave_one_out:
            similarity.diagonal(i * _QUERIES_AT_ONCE).fill_(-torch.inf)
        nearest = similarity.topk(k)
        votes = similarity.new_zeros(len(similarity), num_classes)
        chunks.append(votes.scatter_add_(1, bank_targets[nearest.indices], (nearest.values / temperature).exp()))
    return torch.cat(chunks)
