"""What works where the system is not Linux, as far as its name and what it lacks can be put on."""

import os
import sys

import pytest

from vdet_ssl.data.loading.loaders import on_this_machine
from vdet_ssl.data.loading.workers import WorkerPool
from vdet_ssl.data.video import probe
from vdet_ssl.errors import ConfigError


def test_worker_processes_are_refused_with_the_key_to_set(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="need Linux, and this is darwin: set DATALOADER.NUM_WORKERS to 0"):
        WorkerPool(len, num_workers=1, num_ahead=1, timeout_s=0, memory_bytes=0)


@pytest.mark.parametrize("has_memfd", [True, False])
def test_a_video_in_a_tar_file_gets_a_name_that_decoders_can_open(make_video, tmp_path, monkeypatch, has_memfd):
    video = make_video(tmp_path / "a.mp4", num_frames=12)
    content = video.read_bytes()
    (tmp_path / "a.tar").write_bytes(bytes(512) + content + bytes(512))
    where = {"shard": str(tmp_path / "a.tar"), "offset": 512, "num_bytes": len(content)}
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create")
    with on_this_machine({"file_name": "a.tar/a.mp4", **where}) as record:
        path = record["file_name"]
        assert path.startswith("/proc/") == has_memfd
        assert probe(path) == probe(video)
    assert not os.path.exists(path)
