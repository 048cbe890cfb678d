import itertools

import pytest
import torch

from vdet_ssl.config import get_cfg
from vdet_ssl.data.build import build_train_loader, load_dataset
from vdet_ssl.data.loading.shuffled_stream import ShuffledStream
from vdet_ssl.engine import SSLTrainer

NUM_VIDEOS = 5


@pytest.fixture(scope="module")
def video_list(make_video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i in range(NUM_VIDEOS):
        make_video(folder / f"{i}.mp4", fps=24 + i, num_frames=30 + 10 * i)
    (folder / "train.csv").write_text("".join(f"{i}.mp4,{i % 3}\n" for i in range(NUM_VIDEOS)))
    return str(folder / "train.csv")


def _cfg(video_list, output_dir, *, num_workers=0, batch_size=2):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (video_list,)
    cfg.INPUT.NUM_FRAMES, cfg.INPUT.SAMPLING_RATE = 4, 2
    cfg.INPUT.CROP.SIZE, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = [32, 32], (40, 48), 40
    cfg.SOLVER.IMS_PER_BATCH = cfg.TEST.IMS_PER_BATCH = batch_size
    cfg.DATALOADER.NUM_WORKERS = num_workers
    cfg.OUTPUT_DIR = str(output_dir)
    return cfg


def _take(loader, num_batches):
    return list(itertools.islice(loader, num_batches))


def _assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for sample, twin in zip(batch, other, strict=True):
            assert sample.keys() == twin.keys()
            clips, twins = sample.pop("clips"), twin.pop("clips")
            assert all(torch.equal(a, b) for a, b in zip(clips, twins, strict=True))
            assert sample == twin
            sample["clips"], twin["clips"] = clips, twins


@pytest.fixture(scope="module")
def batches(video_list, tmp_path_factory):
    """Eight batches, that is three epochs and a bit, made without workers."""
    return _take(SSLTrainer.build_train_loader(_cfg(video_list, tmp_path_factory.mktemp("output"))), 8)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_workers_change_nothing(video_list, batches, tmp_path, num_workers):
    loader = SSLTrainer.build_train_loader(_cfg(video_list, tmp_path, num_workers=num_workers))
    _assert_equal(_take(loader, 8), batches)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (4, 1), (0, 4)])
def test_resumed_loader_continues(video_list, batches, tmp_path, before, after):
    stopped = SSLTrainer.build_train_loader(_cfg(video_list, tmp_path, num_workers=before))
    _take(stopped, 3)
    resumed = SSLTrainer.build_train_loader(_cfg(video_list, tmp_path, num_workers=after))
    resumed.load_state_dict(stopped.state_dict())
    _assert_equal(_take(resumed, 5), batches[3:])


def test_batches_are_lists_of_uint8_clips(batches):
    for sample in itertools.chain(*batches):
        assert [clip.shape for clip in sample["clips"]] == [(4, 32, 32, 3)] * 2
        assert all(clip.dtype == torch.uint8 for clip in sample["clips"])
        assert int(sample["video_id"]) % 3 == sample["label"]


def test_every_epoch_visits_every_video_once_with_crops_of_its_own(batches):
    samples = list(itertools.chain(*batches))
    epochs = [samples[i : i + NUM_VIDEOS] for i in range(0, 15, NUM_VIDEOS)]
    orders = [[sample["video_id"] for sample in epoch] for epoch in epochs]
    assert all(sorted(order) == list("01234") for order in orders)
    assert orders[0] != orders[1]
    first_clips = [next(sample for sample in epoch if sample["video_id"] == "0")["clips"][0] for epoch in epochs]
    assert not torch.equal(first_clips[0], first_clips[1])


def test_another_seed_gives_another_order(video_list, batches, tmp_path):
    cfg = _cfg(video_list, tmp_path)
    cfg.SEED = 1
    orders = [
        [s["video_id"] for b in run for s in b] for run in (batches, _take(SSLTrainer.build_train_loader(cfg), 8))
    ]
    assert orders[0] != orders[1]


def _slices(video_list, output_dir):
    """Global positions are told by video_id and start time; as numbers, so that they can be handed back."""
    train = SSLTrainer.build_train_loader(_cfg(video_list, output_dir, batch_size=4))
    test = SSLTrainer.build_test_loader(_cfg(video_list, output_dir), video_list)
    rows = [[float(s["video_id"]), *s["start_times_s"]] for batch in _take(train, 3) for s in batch]
    return torch.tensor(rows), torch.tensor([int(s["video_id"]) for batch in test for s in batch]), len(test)


def test_two_processes_share_the_global_batch_out(video_list, tmp_path, run_distributed):
    whole_train, whole_test, num_batches = _slices(video_list, tmp_path)
    (train0, test0, batches0), (train1, test1, batches1) = run_distributed(_slices, 2, video_list, tmp_path)
    for k in range(3):
        parts = torch.cat([train0[2 * k : 2 * k + 2], train1[2 * k : 2 * k + 2]])
        assert sorted(parts.tolist()) == sorted(whole_train[4 * k : 4 * k + 4].tolist())
    assert torch.equal(torch.cat([test0, test1]), whole_test)
    assert whole_test.tolist() == list(range(NUM_VIDEOS))
    assert (num_batches, batches0, batches1) == (3, 2, 1)


def test_batch_that_processes_cannot_share_is_refused(video_list, tmp_path, run_distributed):
    with pytest.raises(Exception, match="IMS_PER_BATCH is 3.*number of processes, 2"):
        run_distributed(_build_with_three, 2, video_list, tmp_path)


def _build_with_three(video_list, output_dir):
    SSLTrainer.build_train_loader(_cfg(video_list, output_dir, batch_size=3))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_is_complete_and_repeatable(video_list, tmp_path, num_workers):
    loader = SSLTrainer.build_test_loader(_cfg(video_list, tmp_path, num_workers=num_workers), video_list)
    first, second = list(loader), list(loader)
    assert [len(batch) for batch in first] == [2, 2, 1] and len(loader) == 3
    _assert_equal(first, second)


def test_several_datasets_are_one(video_list, tmp_path):
    cfg = _cfg(video_list, tmp_path, batch_size=2 * NUM_VIDEOS)
    cfg.DATASETS.TRAIN = (video_list, video_list)
    assert sum(len(load_dataset(name)) for name in cfg.DATASETS.TRAIN) == 2 * NUM_VIDEOS
    (batch,) = _take(SSLTrainer.build_train_loader(cfg), 1)
    assert sorted(sample["video_id"] for sample in batch) == sorted("01234" * 2)


def test_batches_larger_than_what_may_wait_for_a_process(video_list, tmp_path):
    def mapper(record, rng):
        return {"video_id": record["video_id"], "draws": torch.from_numpy(rng.integers(100, size=3))}

    cfg = _cfg(video_list, tmp_path, num_workers=1, batch_size=600)
    batches = _take(build_train_loader(cfg, mapper=mapper), 2)
    cfg.DATALOADER.NUM_WORKERS = 0
    expected = _take(build_train_loader(cfg, mapper=mapper), 2)
    assert [len(batch) for batch in batches] == [600, 600]
    for sample, other in zip(itertools.chain(*batches), itertools.chain(*expected), strict=True):
        assert sample["video_id"] == other["video_id"] and torch.equal(sample["draws"], other["draws"])


def test_videos_of_any_length(make_video, tmp_path):
    """Half a second, which is shorter than the clip, and ten minutes."""
    make_video(tmp_path / "short.mp4", fps=30, num_frames=15)
    make_video(tmp_path / "long.mp4", fps=2, num_frames=1200)
    (tmp_path / "list.txt").write_text("short.mp4\nlong.mp4\n")
    cfg = _cfg(str(tmp_path / "list.txt"), tmp_path)
    cfg.INPUT.NUM_FRAMES, cfg.INPUT.SAMPLING_RATE = 8, 8
    samples = {sample["video_id"]: sample for batch in _take(SSLTrainer.build_train_loader(cfg), 4) for sample in batch}
    assert samples["short"]["start_times_s"] == [0.0, 0.0]
    assert max(samples["long"]["start_times_s"]) > 2.0
    assert all(clip.shape == (8, 32, 32, 3) for sample in samples.values() for clip in sample["clips"])


def test_order_of_a_million_does_not_depend_on_where_it_is_entered():
    stream = ShuffledStream(size=1_000_000, seed=3, rank=1, world_size=4)
    from_start = itertools.islice(stream.tasks(249_990), 20)
    assert list(from_start)[10:] == list(itertools.islice(stream.tasks(250_000), 10))
    assert [epoch for epoch, _ in itertools.islice(stream.tasks(249_990), 20)] == [0] * 10 + [1] * 10
