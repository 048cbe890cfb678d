#!/usr/bin/env python3
"""The main job on a world made for it, in minutes on a laptop: every step is a command that can be run by itself.

Renders the synthetic world, pre-trains a backbone on its unlabelled videos, trains the action detector twice with one
recipe, from that backbone and from scratch, and compares both with chance: a table, results.json, summary.png and
annotated.mp4 in the output folder.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from vdet_ssl.data.video.reader import open_video
from vdet_ssl.data.video.writer import VideoWriter
from vdet_ssl.metrics.ava import evaluate_files
from vdet_ssl.visualization.metrics_file import read_metrics

# torch and matplotlib are imported where they are used: --help takes no time.
ROOT = Path(__file__).resolve().parents[1]
DETECTION = "projects/AVA/configs/quick_synthetic.yaml"
NUM_ACTIONS = 8
# Labels are few, unlabelled videos are many, as it is with people's own videos.
WORLD = {"pretrain": 600, "knn-train": 0, "knn-val": 240, "train": 12, "val": 24}
# One video to look at: larger, longer shots, annotated more often.
SHOW = {"pretrain": 0, "knn-train": 0, "knn-val": 0, "train": 0, "val": 1}
SHOW_FORM = ("--seconds", 14, "--shot-seconds", 2, "--key-frame-rate", 8, "--size", 240, "--fps", 24)
CHANCE_DRAWS = 5  # of random scores, whose average is chance


def run(script: str, *arguments: object) -> None:
    """Show a command and run it; stop where it fails."""
    command = [sys.executable, script, *map(str, arguments)]
    print(f"\n$ {shlex.join(['python', *command[1:]])}", flush=True)
    # Threads that wait by spinning take the core from who works: on a busy machine everything would take minutes.
    subprocess.run(command, check=True, cwd=ROOT, env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ})


def make_world(folder: Path, seed: int, counts: dict[str, int], *options: object) -> None:
    numbers = [x for name, count in counts.items() for x in (f"--{name}-videos", count)]
    run("datasets/prepare_synthetic.py", "--output", folder, "--seed", seed, *numbers, *options)


def train(config: str, output: Path, *overrides: object) -> None:
    run("tools/train_net.py", "--overwrite", "--config-file", config, "OUTPUT_DIR", output, *overrides)


def pretrain(method: str, world: Path, output: Path, seed: int) -> None:
    lists = ("DATASETS.TRAIN", world / "pretrain.csv", "DATASETS.TEST", world / "knn_val.csv")
    train(f"configs/quick/{method}.yaml", output, *lists, "SEED", seed)


def detect(world: Path, show: Path, output: Path, seed: int, *overrides: object) -> dict[str, Any]:
    """Train and evaluate the detector; return {"mAP", "AP", "metrics": path of its metrics.json}."""
    sets = ("DATASETS.TRAIN", world / "train.yaml", "DATASETS.TEST", _pair(world / "val.yaml", show / "show.yaml"))
    proposals = _pair(world / "val_proposals.csv", show / "val_proposals.csv")
    train(DETECTION, output, *sets, "DATASETS.PROPOSAL_FILES_TEST", proposals, "SEED", seed, *overrides)
    result = json.loads((output / "inference/val/results.json").read_text())
    return {"mAP": result["mAP"], "AP": result["AP"], "metrics": str(output / "metrics.json")}


def _pair(first: Path, second: Path) -> str:
    return f'("{first}", "{second}")'


def chance(world: Path, detections: Path, output: Path) -> dict[str, Any]:
    """Return the {"mAP", "AP"} of a detector's boxes with random scores."""
    table = pd.read_csv(detections, header=None, dtype=str)
    rng, results = np.random.default_rng(0), []
    for _ in range(CHANCE_DRAWS):
        table[7] = rng.random(len(table)).round(6)
        table.to_csv(output / "chance.csv", header=False, index=False)
        truth, names, excluded = (world / name for name in ("val.csv", "actions.pbtxt", "val_excluded.csv"))
        results.append(evaluate_files(truth, output / "chance.csv", names, excluded=excluded))
    classes = results[0].ap
    ap = {name: None if classes[name] is None else float(np.mean([r.ap[name] for r in results])) for name in classes}
    return {"mAP": float(np.mean([r.mean_ap for r in results])), "AP": ap}


def coarse_pixels_accuracy(world: Path) -> float:
    """Return the kNN accuracy, %, of the middle frame of each video shrunk to 8 x 8 pixels."""
    import torch

    from vdet_ssl.evaluation.knn import knn_scores

    lists = [pd.read_csv(world / f"{split}.csv") for split in ("pretrain", "knn_val")]
    bank, queries = (np.stack([_coarse_pixels(world / path) for path in table.path]) for table in lists)
    targets, labels = (torch.tensor(table.label.to_numpy()) - 1 for table in lists)
    votes = knn_scores(
        torch.from_numpy(queries - bank.mean(0)), torch.from_numpy(bank - bank.mean(0)), targets,
        num_classes=NUM_ACTIONS, k=20, temperature=0.1, leave_one_out=False,
    )  # fmt: skip
    return 100 * (votes.argmax(1) == labels).double().mean().item()


def _coarse_pixels(path: Path) -> NDArray:
    with open_video(path) as video:
        frame = video.decode_clips([np.array([video.info.duration_s / 2])], "rgb")[0][0]
    return cv2.resize(frame, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()


def annotate(show: Path, runs: dict[str, Path], output: Path) -> None:
    """Draw the detections of both detectors, and which are right, into one video: annotated.mp4, side by side."""
    halves = []
    for name, folder in runs.items():
        run(
            "tools/visualize_detections.py", show / "videos/val_00000.mp4", "--ground-truth", show / "val.csv",
            "--detections", folder / "inference/show/detections.csv", "--label-map", show / "actions.pbtxt",
            "--output", folder, "--top-k", 1, "--min-score", 0,
        )  # fmt: skip
        halves.append((name, _decode(folder / "val_00000_annotated.mp4")))
    height, width = halves[0][1].shape[1:3]
    options = {"crf": "22", "preset": "veryfast"}
    with VideoWriter(output / "annotated.mp4", fps=24, width=2 * width, height=height + 40, options=options) as writer:
        for frames in zip(*(_titled(name, frames) for name, frames in halves), strict=True):
            writer.write(np.concatenate(frames, axis=1))


def _decode(path: Path) -> NDArray:
    with open_video(path) as video:
        times_s = np.arange(round(video.info.duration_s * video.info.fps)) / video.info.fps
        return video.decode_clips([times_s], "rgb")[0]


def _titled(title: str, frames: NDArray) -> NDArray:
    """Frames (N, H, W, 3) with a line of text above: (N, H + 40, W, 3)."""
    bar = np.full((40, frames.shape[2], 3), 30, np.uint8)
    cv2.putText(bar, title, (12, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([np.broadcast_to(bar, (len(frames), *bar.shape)), frames], axis=1)


def report(output: Path, runs: dict[str, dict[str, Any]], knn: dict[str, float], seconds: float) -> None:
    """Write results.json and summary.png; print the tables."""
    from vdet_ssl.visualization.plots import write_summary

    results = {name: {"mAP": r["mAP"], "AP": r["AP"]} for name, r in runs.items()}
    (output / "results.json").write_text(json.dumps({**results, "knn_top1": knn, "seconds": seconds}, indent=1) + "\n")
    trained = {name: r for name, r in runs.items() if name != "chance"}
    write_summary(output / "summary.png", output / "pretrain/metrics.json", trained, runs["chance"])
    rows = [[name, *(r["AP"][name] for r in runs.values())] for name in runs["chance"]["AP"]]
    rows.append(["mAP", *(r["mAP"] for r in runs.values())])
    print("\n" + tabulate(rows, headers=["AP at IoU 0.5", *runs], floatfmt=".3f", missingval="-", tablefmt="github"))
    print("\n" + tabulate([["kNN accuracy, %", *knn.values()]], headers=["", *knn], floatfmt=".1f", tablefmt="github"))
    print(f"\n{seconds / 60:.1f} minutes; results.json, summary.png and annotated.mp4 are in {output}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument("--method", default="simclr", help="a config of configs/quick: simclr, moco, byol, swav")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    output, start = args.output.resolve(), time.monotonic()
    world, show = output / "world", output / "show"
    make_world(world, args.seed, WORLD)
    make_world(show, args.seed, SHOW, *SHOW_FORM)
    description = (show / "val.yaml").read_text()
    (show / "show.yaml").write_text(description.replace("excluded_timestamps: val_excluded.csv\n", ""))
    pretrain(args.method, world, output / "pretrain", args.seed)
    weights = ("MODEL.WEIGHTS", output / "pretrain/model_final.pth")
    scratch = detect(world, show, output / "scratch", args.seed)
    pretrained = detect(world, show, output / "pretrained", args.seed, *weights)
    by_chance = chance(world, output / "pretrained/inference/val/detections.csv", output)
    annotate(show, {"from scratch": output / "scratch", "pre-trained": output / "pretrained"}, output)
    metrics = read_metrics(output / "pretrain/metrics.json")
    knn = {
        "chance": 100 / NUM_ACTIONS,
        "8x8 pixels": coarse_pixels_accuracy(world),
        "before pre-training": float(metrics["knn/top1_init"].values[-1]),
        "after pre-training": float(metrics["knn/top1"].values[-1]),
    }
    runs = {"chance": by_chance, "scratch": scratch, "pretrained": pretrained}
    report(output, runs, knn, time.monotonic() - start)


if __name__ == "__main__":
    main()
