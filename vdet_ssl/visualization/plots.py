"""Plots of runs: loss curves and average precision per class."""

from collections.abc import Mapping
from os import PathLike
from typing import TypedDict

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from vdet_ssl.errors import DataError
from vdet_ssl.visualization.metrics_file import read_metrics

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")


class Result(TypedDict):
    """A detector's result.

    Keys:
        mAP: mean average precision, 0..1.
        AP: class name -> average precision, 0..1, None without ground truth.
    """

    mAP: float
    AP: Mapping[str, float | None]


class Run(Result):
    """A fine-tuning run: its result, and the path of its metrics.json."""

    metrics: str | PathLike[str]


def plot_losses(axes: Axes, metrics: Mapping[str, str | PathLike[str]], title: str) -> None:
    """Draw the total loss of runs over their iterations.

    Args:
        metrics: name of the run -> path of its metrics.json.
        title: of the plot.
    Raises:
        DataError: a file has no total_loss.
    """
    for (name, path), color in zip(metrics.items(), _COLORS, strict=False):
        series = read_metrics(path).get("total_loss")
        if series is None:
            raise DataError(f"{path}: has no scalar 'total_loss'")
        axes.plot(*series, label=name, color=color)
    axes.set(title=title, xlabel="iteration", ylabel="loss")
    axes.grid(alpha=0.3)
    if len(metrics) > 1:
        axes.legend()


def plot_average_precision(axes: Axes, runs: Mapping[str, Result]) -> None:
    """Draw the average precision of each class as bars, those of different runs side by side.

    Args:
        runs: name of the run -> its result; all with the same classes.
    """
    names = list(next(iter(runs.values()))["AP"])
    width = 0.8 / len(runs)
    for i, ((run, result), color) in enumerate(zip(runs.items(), _COLORS, strict=False)):
        heights = [100 * (result["AP"][name] or 0.0) for name in names]
        at = np.arange(len(names)) + (i - (len(runs) - 1) / 2) * width
        bars = axes.bar(at, heights, width, label=f"{run}: mAP {100 * result['mAP']:.1f}", color=color)
        if len(names) <= 20:
            axes.bar_label(bars, fmt="%.0f", fontsize=8)
    axes.set_xticks(np.arange(len(names)), names, rotation=30 if len(names) <= 20 else 90, ha="right")
    axes.set(ylabel="AP at IoU 0.5, %", title="Average precision of each action", ylim=(0, 108))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=len(runs), loc="upper right")


def write_summary(
    output: str | PathLike[str],
    pretraining_metrics: str | PathLike[str],
    runs: Mapping[str, Run],
    chance: Result | None = None,
) -> None:
    """Write one image of a pre-training and of the detectors fine-tuned after it.

    Args:
        output: path of the png.
        pretraining_metrics: path of the pre-training's metrics.json.
        runs: name of the run -> it.
        chance: what random scores reach: bars of their own, and a line at the mean.
    """
    figure = plt.figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    plot_losses(figure.add_subplot(grid[0, 0]), {"pre-training": pretraining_metrics}, "Pre-training")
    fine_tuning = {name: run["metrics"] for name, run in runs.items()}
    plot_losses(figure.add_subplot(grid[0, 1]), fine_tuning, "Action detection fine-tuning")
    axes = figure.add_subplot(grid[1, :])
    results: dict[str, Result] = {**runs}
    if chance is not None:
        results["chance"] = chance
        axes.axhline(100 * chance["mAP"], color=_COLORS[len(runs) % len(_COLORS)], linestyle="--", zorder=0)
    plot_average_precision(axes, results)
    scores = ", ".join(f"{name} {100 * run['mAP']:.1f}" for name, run in results.items())
    figure.suptitle(f"AVA mAP at IoU 0.5, %: {scores}", fontsize=15)
    figure.savefig(output, dpi=110)
    plt.close(figure)
