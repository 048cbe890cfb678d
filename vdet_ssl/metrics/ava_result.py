"""The figures of AVA's metric, and how they are said."""

from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

OFFICIAL_CAPACITY = 50


@dataclass(frozen=True)
class AVAResult:
    """Average precision of each class, and their mean.

    Attributes:
        ap: class name -> average precision in 0..1, None for a class without ground truth.
        mean_ap: mean over the classes that have ground truth.
        capacity: (box, class) detections kept of a key frame, None for all of them.
        as_pyslowfast: whether PySlowFast's rules were applied, see `evaluate`.
        mean_ap_range: `mean_ap` if of detections with equal scores the true positives came last, and first.
    """

    ap: dict[str, float | None]
    mean_ap: float
    capacity: int | None
    as_pyslowfast: bool = False
    mean_ap_range: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        rules = {"as_pyslowfast": True} if self.as_pyslowfast else {}
        return {"mAP": self.mean_ap, "capacity": self.capacity, **rules, "AP": self.ap}

    def describe(self) -> str:
        """Say which detections the figure counts."""
        if self.as_pyslowfast:
            return "by PySlowFast's rules: all detections count, matched in the order of the file"
        if self.capacity is None:
            return "all detections of a key frame count, which is neither the official figure nor PySlowFast's"
        kept = f"the {self.capacity} (box, class) detections of highest score in a key frame count"
        return kept + (", as in the official evaluator" if self.capacity == OFFICIAL_CAPACITY else "")

    def table(self) -> str:
        """Format the figures for people to read."""
        rows = [(name, "no ground truth" if ap is None else f"{ap:.4f}") for name, ap in self.ap.items()]
        return tabulate([*rows, ("mAP", f"{self.mean_ap:.4f}")], ["class", "AP at IoU 0.5"], disable_numparse=True)
