"""Plots of runs are drawn from the files that detectron2's writers leave."""

import cv2
import numpy as np
import pytest
from detectron2.utils.events import EventStorage, JSONWriter
from matplotlib import pyplot as plt

from vdet_ssl.errors import DataError
from vdet_ssl.visualization.metrics_file import read_metrics
from vdet_ssl.visualization.plots import plot_average_precision, plot_losses, write_summary

RESULT = {"mAP": 0.5, "AP": {"walk": 0.75, "wave": 0.25, "dance": None}}


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.json"
    writer = JSONWriter(str(path), window_size=1)
    with EventStorage(0) as storage:
        for i in range(5):
            storage.put_scalar("total_loss", 2.0 - 0.1 * i)
            writer.write()
            storage.step()
    writer.close()
    return path


def test_losses_are_those_of_the_file(metrics):
    iterations, losses = read_metrics(metrics)["total_loss"]
    assert iterations.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(losses, [2.0, 1.9, 1.8, 1.7, 1.6])
    figure, axes = plt.subplots()
    plot_losses(axes, {"a": metrics, "b": metrics}, "title")
    np.testing.assert_allclose(axes.lines[1].get_ydata(), losses)
    assert [text.get_text() for text in axes.get_legend().texts] == ["a", "b"]
    plt.close(figure)


def test_iterations_repeated_after_a_resume_count_once(metrics):
    with metrics.open("a") as f:
        f.write('{"iteration": 3, "total_loss": 9.0}\n')
    assert read_metrics(metrics)["total_loss"].values.tolist() == pytest.approx([2.0, 1.9, 1.8, 9.0, 1.6])


def test_a_last_line_that_is_half_written_is_left_out(metrics):
    whole = metrics.read_text()
    metrics.write_text(whole[:-10])
    assert read_metrics(metrics)["total_loss"].iterations.tolist() == [0, 1, 2, 3]
    metrics.write_text(whole + "4\n" + whole)  # a number where an object is expected, and not in the last line
    with pytest.raises(DataError, match="metrics.json:6: is not a line of detectron2's metrics"):
        read_metrics(metrics)


def test_a_run_without_losses_is_named(metrics):
    metrics.write_text('{"iteration": 3, "lr": 0.1}\n')
    figure, axes = plt.subplots()
    with pytest.raises(DataError, match="metrics.json: has no scalar 'total_loss'"):
        plot_losses(axes, {"a": metrics}, "title")
    plt.close(figure)


def test_bars_have_the_height_of_the_average_precision():
    figure, axes = plt.subplots()
    plot_average_precision(axes, {"pretrained": RESULT, "scratch": {**RESULT, "mAP": 0.4}})
    assert [bar.get_height() for bar in axes.patches[:3]] == [75.0, 25.0, 0.0]
    assert len(axes.patches) == 6
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["walk", "wave", "dance"]
    plt.close(figure)


def test_summary_is_an_image_with_something_in_it(metrics, tmp_path):
    runs = {name: {**RESULT, "metrics": metrics} for name in ("pretrained", "scratch")}
    write_summary(tmp_path / "summary.png", metrics, runs)
    image = cv2.imread(str(tmp_path / "summary.png"))
    assert image.shape[0] > 600 and (image != 255).any(-1).mean() > 0.05
