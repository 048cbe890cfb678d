"""Time the way of a video into a batch: decoding, augmentation, collating, and the loader that does all of it.

Figures are augmented clips a second of one process: medians over rounds, in each of which all are measured.  "cpu" has
the same by processor time, for machines that are busy with something else.  "workers" is what the loader gives to a
trainer that does nothing but wait, by number of workers.
"""

import itertools
import statistics
import time

import cv2
import numpy as np
import torch

from vdet_ssl.config import load_cfg
from vdet_ssl.data.datasets import load_videos
from vdet_ssl.data.loading.loaders import on_this_machine
from vdet_ssl.data.mappers import VideoMapper
from vdet_ssl.engine import SSLTrainer
from vdet_ssl.errors import VideoError

VIDEOS_OF_A_BATCH = 8


def add_arguments(parser):
    parser.add_argument("--config-file", required=True)
    parser.add_argument(
        "--videos", required=True, help="folder, list (.csv, .txt), manifest (.parquet) or shards (.tar)"
    )
    parser.add_argument("--num-clips", type=int, help="rho, instead of the config's INPUT.NUM_CLIPS")
    parser.add_argument("--workers", type=int, default=0, help="measure the loader with 1, 2, 4, ... up to so many")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4, help=f"of {VIDEOS_OF_A_BATCH} videos each, in a round")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs that change the config")


def run(args):
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    cfg = load_cfg(args.config_file, args.opts)
    cfg.INPUT.NUM_CLIPS = args.num_clips or cfg.INPUT.NUM_CLIPS
    cfg.DATASETS.TRAIN = (args.videos,)
    cfg.DATALOADER.BROKEN_TOLERANCE = 1.0
    cfg.SOLVER.IMS_PER_BATCH = VIDEOS_OF_A_BATCH
    wanted = itertools.islice(load_videos(args.videos), args.batches * VIDEOS_OF_A_BATCH)
    records = _readable(wanted, VideoMapper.for_pretraining(cfg))
    rounds = [_measure_round(cfg, records, k, args.batches) for k in range(args.rounds)]
    wall, cpu = ({stage: statistics.median(r[i][stage] for r in rounds) for stage in rounds[0][i]} for i in range(2))
    for stage in wall:
        print(f"{stage:8} {wall[stage]:8.1f} clips a second, {cpu[stage]:8.1f} by processor time")
    counts = [2**k for k in range(args.workers.bit_length()) if 2**k < args.workers] + [args.workers] * (
        args.workers > 0
    )
    by_workers = {}
    for n in counts:
        by_workers[str(n)], _ = _measure_loader(cfg, n, args.rounds * args.batches)
        print(f"loader with {n} workers: {by_workers[str(n)]:.1f} clips a second")
    return {**wall, "cpu": cpu, "workers": by_workers}


def _now():
    return np.array([time.perf_counter(), time.process_time()])


def _readable(records, mapper):
    """The records whose videos can be decoded; the others are printed."""
    readable = []
    for record in records:
        try:
            with on_this_machine(record) as local_record:
                mapper.decode(local_record, np.random.default_rng(0))
            readable.append(record)
        except VideoError as error:
            print(f"left out: {record['file_name']}: {error.reason}")
    if not readable:
        raise SystemExit("none of the videos can be decoded")
    return readable


def _measure_round(cfg, records, k, num_batches):
    """Return clips a second of each stage, by wall time and by processor time."""
    mapper = VideoMapper.for_pretraining(cfg)
    seconds = {stage: np.zeros(2) for stage in ("decode", "augment", "collate")}
    num_clips = 0
    chosen = itertools.islice(itertools.cycle(records), k, k + num_batches * VIDEOS_OF_A_BATCH)
    for batch in iter(lambda: list(itertools.islice(chosen, VIDEOS_OF_A_BATCH)), []):
        samples = []
        for record in batch:
            rng = np.random.default_rng([k, num_clips])
            start = _now()
            with on_this_machine(record) as local_record:
                _, clips = mapper.decode(local_record, rng)
            decoded = _now()
            samples.append(mapper.augment(clips, rng))
            seconds["decode"] += decoded - start
            seconds["augment"] += _now() - decoded
            num_clips += len(samples[-1]["clips"])
        start = _now()
        _collate(samples)
        seconds["collate"] += _now() - start
    full = _measure_loader(cfg, 0, num_batches)
    return [{**{stage: num_clips / s[i] for stage, s in seconds.items()}, "full": full[i]} for i in range(2)]


def _collate(samples):
    """What a model does first with its batch."""
    return [torch.stack(clips) for clips in zip(*(sample["clips"] for sample in samples), strict=True)]


def _measure_loader(cfg, num_workers, num_batches):
    cfg.DATALOADER.NUM_WORKERS = num_workers
    batches = iter(SSLTrainer.build_train_loader(cfg))
    if num_workers:
        for _ in range(3):  # workers work ahead by two
            _collate(next(batches))
    start = _now()
    num_clips = sum(len(clips) for _ in range(num_batches) for clips in _collate(next(batches)))
    seconds = _now() - start
    batches.close()
    return num_clips / seconds
