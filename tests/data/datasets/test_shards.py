import io
import itertools
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import pytest
import torch

from vdet_ssl.config import get_cfg
from vdet_ssl.data.datasets import load_videos
from vdet_ssl.data.storage import expand
from vdet_ssl.engine import SSLTrainer

NUM_VIDEOS = 4


@pytest.fixture(scope="module")
def files(make_video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for i in range(NUM_VIDEOS):
        make_video(folder / f"{i}.mp4", num_frames=20 + 5 * i)
    (folder / "train.csv").write_text("".join(f"{i}.mp4,{i % 3}\n" for i in range(NUM_VIDEOS)))
    return folder


@pytest.fixture(scope="module")
def shards(files, tmp_path_factory):
    """The same videos in two tar files, beside files that are no videos."""
    folder = tmp_path_factory.mktemp("shards")
    for k in range(2):
        with tarfile.open(folder / f"part-{k:02d}.tar", "w") as tar:
            for i in (2 * k, 2 * k + 1):
                tar.add(files / f"{i}.mp4", f"{i}.mp4")
                _add(tar, f"{i}.cls", str(i % 3).encode())
                _add(tar, f"{i}.json", b"{}")
                _add(tar, f"._{i}.mp4", b"what macOS adds")
    return folder


def _add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _take(path, output_dir, num_batches, *, num_workers=0, state=None):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (str(path),)
    cfg.INPUT.NUM_FRAMES, cfg.INPUT.SAMPLING_RATE = 4, 2
    cfg.INPUT.CROP.SIZE, cfg.INPUT.MIN_SIZE_TRAIN = [32, 32], (40, 48)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.BROKEN_TOLERANCE = num_workers, 0.3
    cfg.OUTPUT_DIR = str(output_dir)
    loader = SSLTrainer.build_train_loader(cfg)
    if state:
        loader.load_state_dict(state)
    return list(itertools.chain(*itertools.islice(loader, num_batches))), loader.state_dict()


def _assert_same(samples, others):
    for sample, other in zip(samples, others, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(sample["clips"], other["clips"], strict=True))
        assert (sample["video_id"], sample["label"]) == (other["video_id"], other["label"])


@pytest.mark.parametrize("name", ["", "part-*.tar", "part-{00..01}.tar"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_give_the_samples_of_the_files(files, shards, tmp_path, name, num_workers):
    expected, _ = _take(files / "train.csv", tmp_path, 5)
    samples, _ = _take(shards / name, tmp_path, 5, num_workers=num_workers)
    _assert_same(samples, expected)
    video_id = samples[0]["video_id"]
    assert samples[0]["file_name"] == f"{shards}/part-0{int(video_id) // 2}.tar/{video_id}.mp4"


def test_index_of_shards(shards):
    script = Path(__file__).parents[3] / "datasets" / "prepare_shards.py"
    subprocess.run([sys.executable, script, shards / "part-{00..01}.tar", shards / "index.parquet"], check=True)
    assert list(load_videos(str(shards / "index.parquet"))) == list(load_videos(str(shards)))


def test_resumed_shards_continue(shards, tmp_path):
    whole, _ = _take(shards, tmp_path, 6)
    _, state = _take(shards, tmp_path, 2, num_workers=2)
    rest, _ = _take(shards, tmp_path, 4, num_workers=2, state=state)
    _assert_same(rest, whole[4:])


def test_remote_shards_and_files(files, shards, tmp_path):
    """fsspec's memory:// stands for any of its protocols; the workers' processes inherit what is in it."""
    remote = fsspec.filesystem("memory")
    remote.put([str(shards / f"part-0{k}.tar") for k in range(2)], "/bucket/shards/")
    remote.put(str(files), "/bucket/files", recursive=True)
    expected, _ = _take(files / "train.csv", tmp_path, 3)
    for path in ("memory://bucket/shards/part-*.tar", "memory://bucket/files/train.csv"):
        _assert_same(_take(path, tmp_path, 3, num_workers=1)[0], expected)


def test_broken_member_is_named(files, shards, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(3):
            tar.add(files / f"{i}.mp4", f"{i}.mp4")
        _add(tar, "broken.mp4", b"no video")
    _, state = _take(tmp_path / "a.tar", tmp_path, 4)
    assert [row["path"] for row in state["broken"]] == [f"{tmp_path}/a.tar/broken.mp4"]


def test_video_without_label_is_refused_where_others_have_one(files, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(2):
            tar.add(files / f"{i}.mp4", f"{i}.mp4")
        _add(tar, "0.cls", b"5")
    with pytest.raises(ValueError, match=r"a\.tar: 1\.mp4 has no label"):
        load_videos(str(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.mp4": b"", "0.side.mp4": b""}, r"a\.tar: 0\.mp4 and 0\.side\.mp4 share a name up to the first dot"),
        ({"0.mp4": b"", "0.cls": b"waving"}, r"a\.tar: 0\.cls is b'waving', not a whole number"),
    ],
)
def test_shards_that_are_not_clear_are_refused(tmp_path, members, message):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in members.items():
            _add(tar, name, content)
    with pytest.raises(ValueError, match=message):
        load_videos(str(tmp_path / "a.tar"))


@pytest.mark.parametrize("content", [b"no tar file" * 100, None])
def test_file_that_is_no_whole_tar_is_named(shards, tmp_path, content):
    path = tmp_path / "a.tar"
    path.write_bytes(content or (shards / "part-00.tar").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"a\.tar is not an uncompressed tar file, or is cut off"):
        load_videos(str(path))


def test_patterns(tmp_path):
    for name in ("a1.tar", "a2.tar", "b.tar"):
        (tmp_path / name).touch()
    assert expand("s3://b/{008..010}.tar") == [f"s3://b/{i}.tar" for i in ("008", "009", "010")]
    assert expand("{0..1}/x{1..2}") == ["0/x1", "0/x2", "1/x1", "1/x2"]
    assert expand(str(tmp_path / "a*.tar")) == [str(tmp_path / f"a{i}.tar") for i in (1, 2)]


def test_what_shards_leave_out_is_counted_and_said(shards, caplog):
    with caplog.at_level("INFO"):
        load_videos(str(shards))
    assert "4 files are left out by their ending: 4 .json" in caplog.text
