"""Broken input: dropped, counted and listed in training, refused in evaluation, and cut off where it does not return."""

import collections
import itertools
import multiprocessing
import os
import pickle
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch

from vdet_ssl.config import get_cfg
from vdet_ssl.data.build import build_train_loader
from vdet_ssl.engine import SSLTrainer
from vdet_ssl.errors import BrokenVideosError, VideoError

NUM_VIDEOS = 6
BROKEN = 2


@pytest.fixture
def folder(make_video, tmp_path):
    """Six videos, of which number 2 is cut off, and the list of them."""
    for i in range(NUM_VIDEOS):
        make_video(tmp_path / f"{i}.mp4", num_frames=20)
    damaged = tmp_path / f"{BROKEN}.mp4"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    (tmp_path / "train.csv").write_text("".join(f"{i}.mp4\n" for i in range(NUM_VIDEOS)))
    return tmp_path


def _cfg(folder, *, num_workers=0, tolerance=0.0):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (str(folder / "train.csv"),)
    cfg.INPUT.NUM_FRAMES, cfg.INPUT.SAMPLING_RATE = 4, 2
    cfg.INPUT.CROP.SIZE, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = [32, 32], (40, 48), 40
    cfg.SOLVER.IMS_PER_BATCH = cfg.TEST.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = num_workers
    cfg.DATALOADER.BROKEN_TOLERANCE = tolerance
    cfg.OUTPUT_DIR = str(folder / "output")
    return cfg


def _take(loader, num_batches):
    return list(itertools.islice(loader, num_batches))


def _listed(folder):
    return pd.read_csv(folder / "output" / "broken_videos.csv")


def test_video_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "cut off", 7)))
    assert (error.path, error.reason, error.index) == ("a.mp4", "cut off", 7)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_by_default_the_first_broken_video_stops_training(folder, num_workers):
    with pytest.raises(BrokenVideosError, match=rf"1 of 6 videos are broken.*BROKEN_TOLERANCE(?s:.*){BROKEN}\.mp4: \w"):
        _take(SSLTrainer.build_train_loader(_cfg(folder, num_workers=num_workers)), 3)
    listed = _listed(folder)
    assert list(listed.columns) == ["path", "reason", "index", "epoch"]
    assert (listed["path"][0], listed["index"][0], listed["epoch"][0]) == (str(folder / f"{BROKEN}.mp4"), BROKEN, 0)


def test_the_next_of_the_order_takes_the_place_of_a_broken_one(folder):
    """The same batches whatever the workers and after a resume, and the whole videos as if the broken one were not."""
    whole = SSLTrainer.build_train_loader(_cfg(folder, tolerance=0.2))
    batches = _take(whole, 8)
    order = [s["video_id"] for batch in batches for s in batch]
    assert all(sorted(order[5 * e : 5 * e + 5]) == ["0", "1", "3", "4", "5"] for e in range(3))
    for num_workers in (1, 4):
        loader = SSLTrainer.build_train_loader(_cfg(folder, num_workers=num_workers, tolerance=0.2))
        first = _take(loader, 5)
        resumed = SSLTrainer.build_train_loader(_cfg(folder, num_workers=num_workers, tolerance=0.2))
        resumed.load_state_dict(loader.state_dict())
        for batch, other in zip(batches, first + _take(resumed, 3), strict=True):
            for sample, twin in zip(batch, other, strict=True):
                assert sample["video_id"] == twin["video_id"]
                assert all(torch.equal(a, b) for a, b in zip(sample["clips"], twin["clips"], strict=True))


def test_broken_videos_are_listed_at_the_end_of_each_epoch(folder, caplog):
    loader = SSLTrainer.build_train_loader(_cfg(folder, tolerance=0.2))
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    assert not (folder / "output").exists()
    next(batches)
    listed = _listed(folder)
    assert listed["index"].tolist() == [BROKEN] and "left out (1 of 6 so far)" in caplog.text
    next(batches)
    (folder / "output" / "broken_videos.csv").unlink()
    for _ in range(2):
        next(batches)
    assert _listed(folder).equals(listed)  # met again in the second epoch, counted once


def test_processes_count_broken_videos_together(folder, run_distributed):
    for i in (0, 5):
        (folder / f"{i}.mp4").write_bytes(b"no video")
    for rank, (outcome,) in enumerate(run_distributed(_run_until_stopped, 2, folder)):
        assert outcome == 1, f"process {rank} went on"
    assert _listed(folder)["index"].tolist() == [0, BROKEN, 5]


def _run_until_stopped(folder):
    """Two of six may be broken, three are, and no process meets them all within the first epoch."""
    try:
        _take(SSLTrainer.build_train_loader(_cfg(folder, tolerance=0.34)), 3)
    except BrokenVideosError:
        return torch.ones(1)
    return torch.zeros(1)


def test_nothing_but_broken_videos_stops_whatever_is_tolerated(folder):
    for i in range(NUM_VIDEOS):
        (folder / f"{i}.mp4").write_bytes(b"no video")
    with pytest.raises(BrokenVideosError, match="6 of 6"):
        _take(SSLTrainer.build_train_loader(_cfg(folder, tolerance=1.0)), 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_leaves_none_out(folder, num_workers):
    cfg = _cfg(folder, num_workers=num_workers, tolerance=1.0)
    loader = SSLTrainer.build_test_loader(cfg, cfg.DATASETS.TRAIN[0])
    with pytest.raises(VideoError, match=rf"{BROKEN}\.mp4") as raised:
        list(loader)
    assert raised.value.index == BROKEN


def _never_answer(record, rng):
    if record["video_id"] == str(BROKEN):
        time.sleep(3600)
    return {"video_id": record["video_id"], "noise": torch.from_numpy(rng.random(1000))}


def test_file_that_never_answers_is_cut_off(folder):
    """Work that no check inside the process can end."""
    cfg = _cfg(folder, num_workers=2, tolerance=0.2)
    cfg.DATALOADER.DECODE_TIMEOUT_S = 0.5
    batches = _take(build_train_loader(cfg, mapper=_never_answer), 5)
    assert sorted({s["video_id"] for batch in batches for s in batch}) == ["0", "1", "3", "4", "5"]
    assert _listed(folder)["reason"].tolist() == [
        "not done after 1 s (it hangs, or the machine is overloaded): cut off"
    ]


def test_pipe_is_not_waited_for(folder):
    (folder / f"{BROKEN}.mp4").unlink()
    os.mkfifo(folder / f"{BROKEN}.mp4")
    _take(SSLTrainer.build_train_loader(_cfg(folder, num_workers=2, tolerance=0.2)), 5)
    assert _listed(folder)["reason"].tolist() == ["not a file"]


def _crash(record, rng):
    if record["video_id"] == str(BROKEN):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"video_id": record["video_id"], "noise": torch.from_numpy(rng.random(1000))}


def _take_too_much_memory(record, rng):
    return {"video_id": record["video_id"], "x": np.ones(2**31 if record["video_id"] == str(BROKEN) else 1)}


@pytest.mark.parametrize(
    ("mapper", "reason"), [(_crash, r"died \(SIGKILL\)"), (_take_too_much_memory, "too much memory")]
)
def test_video_that_ends_its_process_or_takes_all_memory_is_counted(folder, mapper, reason):
    cfg = _cfg(folder, num_workers=2, tolerance=0.2)
    cfg.DATALOADER.DECODE_MEMORY_GB = 1.0
    batches = _take(build_train_loader(cfg, mapper=mapper), 10)
    order = [s["video_id"] for batch in batches for s in batch]
    assert all(sorted(order[5 * e : 5 * e + 5]) == ["0", "1", "3", "4", "5"] for e in range(4))
    listed = _listed(folder)
    assert listed["index"].tolist() == [BROKEN] and listed["reason"].str.contains(reason).all()


def _samples(folder, mapper, num_workers):
    (folder / f"{BROKEN}.mp4").write_bytes((folder / "0.mp4").read_bytes())
    loader = build_train_loader(_cfg(folder, num_workers=num_workers), mapper=mapper)
    return [(s["video_id"], s["noise"].tolist()) for batch in _take(loader, 8) for s in batch]


def test_a_worker_that_is_killed_once_costs_no_video(folder):
    """As the system does that is out of memory, whoever took it."""

    def killed_once(record, rng):
        marked = folder / f"{record['video_id']}.seen"
        if not marked.exists():
            marked.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"video_id": record["video_id"], "noise": torch.from_numpy(rng.random(10))}

    killed = _samples(folder, killed_once, num_workers=2)
    assert len(list(folder.glob("*.seen"))) == NUM_VIDEOS
    assert killed == _samples(folder, killed_once, num_workers=0)


def test_workers_that_are_killed_from_outside_cost_no_video(folder):
    (folder / f"{BROKEN}.mp4").write_bytes((folder / "0.mp4").read_bytes())
    loader = iter(SSLTrainer.build_train_loader(_cfg(folder, num_workers=2)))
    seen = []
    for _ in range(6):
        seen += [sample["video_id"] for sample in next(loader)]
        for worker in multiprocessing.active_children():
            worker.kill()
    assert sorted(seen[:6]) == sorted(seen[6:]) == [str(i) for i in range(NUM_VIDEOS)]


def test_error_of_a_mapper_is_not_taken_for_a_broken_video(folder):
    cfg = _cfg(folder, num_workers=1, tolerance=1.0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        _take(build_train_loader(cfg, mapper=lambda record, rng: 1 // 0), 1)


def _resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("num_clips", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_worker_does_not_grow(folder, num_clips):
    """Whole and broken videos; a leak of one frame of 96 x 128 pixels for each of 600 clips would be 11 MB."""
    loader = iter(SSLTrainer.build_train_loader(_cfg(folder, num_workers=1, tolerance=0.2)))
    clips = itertools.chain.from_iterable(sample["clips"] for batch in loader for sample in batch)
    _exhaust(
        clips, 600
    )  # pages that the process shares with its parent, and the allocator's pools, are touched by then
    (worker,) = multiprocessing.active_children()
    before = _resident_bytes(worker.pid)
    _exhaust(clips, num_clips)
    assert _resident_bytes(worker.pid) - before < 3 * 2**20


def _exhaust(iterator, num):
    collections.deque(itertools.islice(iterator, num), maxlen=0)
