"""Pre-training learns: kNN accuracy on held-out videos of the synthetic world rises, with the configs as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

from vdet_ssl.visualization.metrics_file import read_metrics

ROOT = Path(__file__).resolve().parents[1]
RISE = 20.0  # %, over random initialisation


def run(script, *arguments):
    subprocess.run([sys.executable, ROOT / script, *map(str, arguments)], check=True, cwd=ROOT, capture_output=True)


def make_world(folder, pretrain, knn_val):
    counts = {"pretrain": pretrain, "knn-train": 0, "knn-val": knn_val, "train": 0, "val": 0}
    numbers = [x for name, count in counts.items() for x in (f"--{name}-videos", count)]
    run("datasets/prepare_synthetic.py", "--output", folder, "--seed", 200, *numbers)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), 600, 240)


def knn_accuracies(method, world, output, *overrides):
    """Pre-train; return kNN accuracies, %, before and after."""
    lists = ("DATASETS.TRAIN", world / "pretrain.csv", "DATASETS.TEST", world / "knn_val.csv")
    config = ROOT / f"configs/quick/{method}.yaml"
    run("tools/train_net.py", "--config-file", config, "OUTPUT_DIR", output, *lists, *overrides)
    metrics = read_metrics(output / "metrics.json")
    return metrics["knn/top1_init"].values[0], metrics["knn/top1"].values[-1]


def test_simclr_learns_in_half_a_minute(tmp_path):
    world = make_world(tmp_path / "world", 224, 96)
    before, after = knn_accuracies("simclr", world, tmp_path / "run", "SOLVER.MAX_EPOCHS", 12)
    assert after > before + RISE


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco", "byol", "swav"])
def test_each_method_learns(method, world, tmp_path):
    before, after = knn_accuracies(method, world, tmp_path)
    assert after > before + RISE
