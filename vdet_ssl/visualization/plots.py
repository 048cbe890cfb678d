"""Pictures of runs: loss curves and average precision per class."""

import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")


def read_metrics(path, name):
    """Read one scalar from the metrics.json that detectron2's JSONWriter writes.

    A run that was stopped and resumed has some iterations twice; the later ones count.

    Args:
        path: metrics.json, one JSON object a line.
        name: of the scalar, such as "total_loss".
    Returns:
        (iterations, values): int64 (N,) and float64 (N,), in order of iteration.
    Raises:
        KeyError: when the scalar is in no line.
    """
    values = {}
    for line in Path(path).read_text().splitlines():
        entry = json.loads(line)
        if name in entry:
            values[entry["iteration"]] = entry[name]
    if not values:
        raise KeyError(f"{path}: no scalar {name!r}")
    iterations = sorted(values)
    return np.array(iterations, dtype=np.int64), np.array([values[i] for i in iterations], dtype=np.float64)


def plot_losses(axes, metrics, title):
    """Draw the total loss of runs over their iterations.

    Args:
        axes: matplotlib Axes.
        metrics: dict, name of the run -> path of its metrics.json.
        title: of the plot.
    """
    for (name, path), color in zip(metrics.items(), _COLORS, strict=False):
        axes.plot(*read_metrics(path, "total_loss"), label=name, color=color)
    axes.set(title=title, xlabel="iteration", ylabel="loss")
    axes.grid(alpha=0.3)
    if len(metrics) > 1:
        axes.legend()


def plot_average_precision(axes, runs):
    """Draw the average precision of each class as bars, those of different runs side by side.

    Args:
        axes: matplotlib Axes.
        runs: dict, name of the run -> {"mAP": float, "AP": {class name: AP in 0..1, or None without ground truth}}.
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


def write_summary(output, pretraining_metrics, runs):
    """Write one picture of a pre-training and of the detectors fine-tuned after it.

    Args:
        output: path of the png.
        pretraining_metrics: path of the pre-training's metrics.json.
        runs: dict, name of the run -> {"mAP": float, "AP": dict, "metrics": path of its metrics.json}.
    """
    figure = plt.figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    plot_losses(figure.add_subplot(grid[0, 0]), {"pre-training": pretraining_metrics}, "Pre-training")
    fine_tuning = {name: run["metrics"] for name, run in runs.items()}
    plot_losses(figure.add_subplot(grid[0, 1]), fine_tuning, "Action detection fine-tuning")
    plot_average_precision(figure.add_subplot(grid[1, :]), runs)
    scores = ", ".join(f"{name} {100 * run['mAP']:.1f}" for name, run in runs.items())
    figure.suptitle(f"AVA mAP at IoU 0.5, %: {scores}", fontsize=15)
    figure.savefig(output, dpi=110)
    plt.close(figure)
