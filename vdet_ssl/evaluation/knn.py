"""kNN accuracy of frozen features: how good a backbone is, without training anything on it."""

import logging

import torch
import torch.nn.functional as F
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm

_QUERIES_AT_ONCE = 1024

logger = logging.getLogger(__name__)


class FeatureCollector(DatasetEvaluator):
    """Collects what a self-supervised method returns in eval mode, with the labels of the videos."""

    def reset(self):
        self._features, self._labels = [], []

    def process(self, inputs, outputs):
        """Take list[dict] with "label" and "file_name", and list[{"features": float32 (C,)}].

        Raises:
            ValueError: a video has no label.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            if "label" not in sample:
                raise ValueError(f"{sample['file_name']} has no label in its data set: kNN accuracy needs labels")
            self._features.append(output["features"].cpu())
            self._labels.append(sample["label"])

    def evaluate(self):
        """Return features (N, C) and labels, int64 (N,), of all processes, on the main process; elsewhere None."""
        own = (torch.stack(self._features), torch.tensor(self._labels)) if self._labels else None
        gathered = [part for part in comm.gather(own) if part is not None]
        if not comm.is_main_process():
            return None
        return tuple(torch.cat(tensors) for tensors in zip(*gathered, strict=True))


class KNNEvaluator(FeatureCollector):
    """Accuracy of a vote of the k nearest videos, by cosine of pooled features, weighted with exp(cosine / temperature).

    Neighbours come from the bank: the labelled videos of DATASETS.TRAIN; where those have no labels, or are the data
    set itself, from the other videos of the data set.  Every video is seen by its centred clip.  Labels are any
    integers; how many classes there are follows from them.

    Args:
        bank_loaders: list of loaders of the bank's data sets; none: leave one out.
        k: neighbours; fewer where the bank is smaller.
        temperature: of the weights.
        device: where distances are computed.
    """

    def __init__(self, *, bank_loaders, k, temperature, device):
        self.bank_loaders = bank_loaders
        self.k = k
        self.temperature = temperature
        self.device = device
        self._bank = None

    def fill_bank(self, model):
        """Compute the bank's features with `model`; on all processes, before the evaluation."""
        banks = [inference_on_dataset(model, loader, FeatureCollector()) for loader in self.bank_loaders]
        if banks and comm.is_main_process():
            self._bank = tuple(torch.cat(tensors) for tensors in zip(*banks, strict=True))

    def evaluate(self):
        """Return {"knn": {"top1": accuracy, "top5": accuracy}} in %, on the main process; "top5" from six classes on."""
        collected = super().evaluate()
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


def knn_scores(queries, bank, bank_targets, *, num_classes, k, temperature, leave_one_out):
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
