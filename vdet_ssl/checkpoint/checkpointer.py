"""Checkpoints: read safely, matched by name, and told apart: what was loaded, what was not, and why."""

import logging
import math
import os
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import _IncompatibleKeys
from tabulate import tabulate
from torch import nn

from vdet_ssl.checkpoint.read import check_weights, read_checkpoint
from vdet_ssl.errors import CheckpointError


@dataclass
class Match:
    """What became of one entry of the model: `source` is the checkpoint's key, `problem` why it was not loaded."""

    name: str
    numel: int
    source: str | None = None
    problem: str = ""


class VideoCheckpointer(DetectionCheckpointer):
    """detectron2's DetectionCheckpointer that takes a backbone from wherever it stands in a checkpoint.

    A backbone is found as `backbone.*` (detectors, classifiers), as `encoder.backbone.*` (a method's online encoder), or
    by its own names, as a state dict of the backbone alone has them;
    a momentum encoder that is not in the checkpoint starts as the encoder.  After loading, a table says what was
    loaded, what was not and why.

    Args:
        model: the model, possibly in DistributedDataParallel.
        save_dir: folder of checkpoints.
        min_coverage: least fraction, 0..1, of the backbone's parameters and statistics that an initialisation has to
            cover; less raises CheckpointError.
        whole_model: whether all of the model has to be covered (evaluation) instead.
        checkpointables: what else is saved, and restored on resume, as for detectron2.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        min_coverage: float,
        whole_model: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.min_coverage = min_coverage
        self.whole_model = whole_model
        self._path = ""

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        self._path = path
        local = self.path_manager.get_local_path(path) if path else ""
        if os.path.isdir(local):
            raise CheckpointError(
                f"{path} is a folder: give a checkpoint in it, such as model_final.pth (MODEL.WEIGHTS)"
            )
        if path and not os.path.isfile(local):
            raise CheckpointError(f"{path}: there is no such checkpoint (MODEL.WEIGHTS)")
        return super().load(path, checkpointables)

    def _load_file(self, f: str) -> dict[str, Any]:
        return read_checkpoint(f, self._path)

    def _load_model(self, checkpoint: dict[str, Any]) -> _IncompatibleKeys:
        weights = check_weights(checkpoint.pop("model"), self._path)
        state = self.model.state_dict()
        matches = match_weights(state, weights)
        report(self._path, matches, unused={*weights} - {m.source for m in matches})
        self._check_coverage(matches)
        self.model.load_state_dict(
            {m.name: weights[m.source] for m in matches if m.source and not m.problem}, strict=False
        )
        return _IncompatibleKeys([], [], [])  # the table above said it all

    def _check_coverage(self, matches: list[Match]) -> None:
        part, least = ("model", 1.0) if self.whole_model else ("backbone", self.min_coverage)
        counted = [m for m in matches if (self.whole_model or "backbone." in m.name) and m.numel]
        covered = sum(m.numel for m in counted if not m.problem) / max(sum(m.numel for m in counted), 1)
        if counted and covered < least:
            lacking = [m.name for m in counted if m.problem]
            shown = ", ".join(lacking[:4]) + (f" and {len(lacking) - 4} more" if len(lacking) > 4 else "")
            raise CheckpointError(
                f"{self._path} covers {math.floor(1000 * covered) / 10}% of the {part}, less than {least:.1%}: not {shown} "
                "(the table above has the reasons). "
                + (
                    "Evaluation needs all of it."
                    if self.whole_model
                    else "MODEL.WEIGHTS_MIN_COVERAGE 0 takes it anyway."
                )
            )


def load_whole_model(model: nn.Module, path: str) -> None:
    """Load all of a model from a checkpoint, to evaluate or apply it.

    Raises:
        CheckpointError: the file cannot be read, or lacks a part of the model.
    """
    VideoCheckpointer(model, min_coverage=1.0, whole_model=True).load(path, checkpointables=[])


def match_weights(state: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> list[Match]:
    """Say for each entry of a model's state dict where it is in a checkpoint's, in the model's order."""
    matches = []
    for name, tensor in state.items():
        match = Match(name, 0 if name.endswith("num_batches_tracked") else tensor.numel())
        match.source = next((source for source in _sources(name) if source in weights), None)
        if match.source is None:
            match.problem = "not in the checkpoint"
        elif weights[match.source].shape != tensor.shape:
            here, there = tuple(tensor.shape), tuple(weights[match.source].shape)
            match.problem = f"shape {there} in the checkpoint, {here} in the model"
        matches.append(match)
    return matches


def _sources(name: str) -> list[str]:
    """Return the checkpoint keys that an entry of the model may come from, the best first."""
    name = name.removeprefix("module.")
    sources = [name, name.replace("momentum_encoder.", "encoder.", 1)]
    if "backbone." in name:
        below = name.split("backbone.", 1)[1]
        sources += [f"encoder.backbone.{below}", f"backbone.{below}", below]
    return sources


def report(path: str, matches: list[Match], unused: set[str]) -> None:
    """Log a table: module, values loaded, reason; and the checkpoint's keys that the model has no place for."""
    groups: dict[str, list[Match]] = defaultdict(list)
    for match in matches:
        groups[".".join(match.name.removeprefix("module.").split(".")[:-1][:3])].append(match)
    rows = []
    for group, members in groups.items():
        total, loaded = sum(m.numel for m in members), sum(m.numel for m in members if not m.problem)
        problems = {m.problem for m in members if m.problem and m.numel}
        rows.append([group, f"{loaded:,} / {total:,}", "; ".join(sorted(problems)) or "loaded"])
    table = tabulate(rows, headers=["module", "values loaded", "what happened"], tablefmt="pipe")
    logger = logging.getLogger(__name__)
    logger.info(f"Weights of {path}:\n{table}")
    if unused:
        parts = sorted({".".join(name.split(".")[:2]) for name in unused})
        logger.info(f"Not used from the checkpoint: {len(unused)} entries of {', '.join(parts)}")
