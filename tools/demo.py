#!/usr/bin/env python3
"""The main job on a world made for it, in minutes on a laptop: every step is a command that can be run by itself.

Renders the synthetic world, pre-trains with BYOL on its unlabelled videos, trains the action detector twice with one
recipe, from the pre-trained backbone and from scratch, and compares them: a table, results.json, summary.png and
annotated.mp4 in the output folder.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tabulate import tabulate

from vdet_ssl.visualization.metrics_file import read_metrics
from vdet_ssl.visualization.plots import write_summary

ROOT = Path(__file__).resolve().parents[1]
PRETRAINING = "configs/quick/byol.yaml"
DETECTION = "projects/AVA/configs/quick_synthetic.yaml"
# Labels are few, unlabelled videos are many, as it is with people's own videos.
WORLD = {"train-videos": 24, "val-videos": 24, "unlabelled-videos": 128, "knn-videos": 48, "seconds": 8}


def run(script, *arguments):
    """Show a command and run it; stop where it fails."""
    command = [sys.executable, script, *map(str, arguments)]
    print(f"\n$ {shlex.join(['python', *command[1:]])}", flush=True)
    subprocess.run(command, check=True, cwd=ROOT)


def train(config, output, *overrides):
    run("tools/train_net.py", "--overwrite", "--config-file", config, "OUTPUT_DIR", output, *overrides)


def make_world(folder, seed):
    options = [str(x) for name, value in WORLD.items() for x in (f"--{name}", value)]
    run("datasets/prepare_synthetic.py", "--output", folder, "--seed", seed, *options)


def pretrain(world, output, seed):
    lists = ("DATASETS.TRAIN", world / "pretrain.csv", "DATASETS.TEST", world / "knn_val.csv")
    train(PRETRAINING, output, *lists, "SEED", seed)


def detect(world, output, seed, *overrides):
    """Train and evaluate the detector; return {"mAP", "AP", "metrics": path of its metrics.json}."""
    sets = ("DATASETS.TRAIN", world / "train.yaml", "DATASETS.TEST", world / "val.yaml")
    people = ("DATASETS.PROPOSAL_FILES_TEST", world / "val_proposals.csv")
    train(DETECTION, output, *sets, *people, "SEED", seed, *overrides)
    result = json.loads((output / "inference/val/results.json").read_text())
    return {"mAP": result["mAP"], "AP": result["AP"], "metrics": str(output / "metrics.json")}


def annotate(world, detections, output):
    """Draw the detections, and which of them are right, into the validation video with the most labels."""
    labels = (world / "val.csv").read_text().splitlines()
    names = [row.split(",")[0] for row in labels]
    video = max(sorted(set(names)), key=names.count)
    run(
        "tools/visualize_detections.py", world / f"videos/{video}.mp4", "--detections", detections,
        "--label-map", world / "actions.pbtxt", "--ground-truth", world / "val.csv", "--output", output,
    )  # fmt: skip
    (output / f"{video}_annotated.mp4").replace(output / "annotated.mp4")


def report(output, runs, seconds):
    """Write results.json and summary.png; print the table."""
    pretraining = output / "pretrain/metrics.json"
    knn = {name: read_metrics(pretraining)[key].values[-1] for name, key in KNN.items()}
    results = {name: {"mAP": r["mAP"], "AP": r["AP"]} for name, r in runs.items()}
    (output / "results.json").write_text(json.dumps({**results, "knn_top1": knn, "seconds": seconds}, indent=1))
    write_summary(output / "summary.png", pretraining, runs)
    actions = runs["pretrained"]["AP"]
    rows = [[name, *(r["AP"][name] for r in runs.values())] for name in actions]
    rows.append(["mAP", *(r["mAP"] for r in runs.values())])
    print("\n" + tabulate(rows, headers=["AP at IoU 0.5", *runs], floatfmt=".3f", missingval="-", tablefmt="github"))
    print(
        f"\nkNN accuracy of the backbone, %: {knn['pretrained']:.1f} after pre-training, {knn['random']:.1f} before\n"
        f"{seconds / 60:.1f} minutes; results.json, summary.png and annotated.mp4 are in {output}"
    )


KNN = {"random": "knn/top1_init", "pretrained": "knn/top1"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    output, start = args.output.resolve(), time.monotonic()
    world = output / "world"
    make_world(world, args.seed)
    pretrain(world, output / "pretrain", args.seed)
    weights = ("MODEL.WEIGHTS", output / "pretrain/model_final.pth")
    runs = {
        "pretrained": detect(world, output / "pretrained", args.seed, *weights),
        "scratch": detect(world, output / "scratch", args.seed),
    }
    annotate(world, output / "pretrained/inference/val/detections.csv", output)
    report(output, runs, time.monotonic() - start)


if __name__ == "__main__":
    main()
