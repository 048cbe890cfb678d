"""Measure a large data set: seconds to open a list of videos, and the memory that it adds to the loader's workers.

Memory is the sum over the workers of what is theirs alone and their share of what they have in common (PSS, Linux), less
the same sum with a list of one video, after they have visited `--visits` videos in the order of training.
"""

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vdet_ssl.config import get_cfg
from vdet_ssl.data.build import build_train_loader
from vdet_ssl.data.datasets import load_videos


def add_arguments(parser):
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--visits", type=int, default=20_000)


def run(args):
    rows = np.arange(args.rows)
    paths = np.char.mod("train/some_class_of_videos/video_%011d_000010_000020.mp4", rows)
    table = pd.DataFrame({"path": paths, "label": rows % 400})
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        table.to_csv(folder / "train.csv", index=False)
        table.assign(duration_s=10.0, error=None).to_parquet(folder / "manifest.parquet")
        table[:1].to_csv(folder / "one.csv", index=False)
        base = memory_of_workers(folder / "one.csv", args)
        for name in ("train.csv", "manifest.parquet"):
            start = time.perf_counter()
            load_videos(str(folder / name))
            open_s = time.perf_counter() - start
            added = memory_of_workers(folder / name, args) - base
            print(
                f"{name}, {args.rows} rows: opened in {open_s:.2f} s, {args.workers} workers take {added:.0f} MB more"
            )
            figures[name] = {"open_s": open_s, "added_mb": added}
    return figures


def _visit(record, rng):
    return {"video_id": record["video_id"]}


def memory_of_workers(path, args):
    """Return the sum of the PSS of all workers in MB."""
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (str(path),)
    cfg.DATALOADER.NUM_WORKERS = args.workers
    cfg.SOLVER.IMS_PER_BATCH = 100
    batches = iter(build_train_loader(cfg, mapper=_visit))
    for _ in itertools.islice(batches, args.visits // 100):
        pass
    total = sum(_pss_kb(worker.pid) for worker in torch.multiprocessing.active_children())
    batches.close()
    return total / 1e3


def _pss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
