import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "tools" / "benchmark.py"


@pytest.mark.parametrize("in_shards", [False, True])
def test_data_benchmark_measures_every_stage(make_video, tmp_path, in_shards):
    folder = videos = tmp_path / "videos"
    folder.mkdir()
    for i in range(2):
        make_video(folder / f"{i}.mp4", num_frames=20)
    (folder / "broken.mp4").write_bytes(b"no video")
    if in_shards:
        videos = tmp_path / "a.tar"
        with tarfile.open(videos, "w") as tar:
            tar.add(folder, "")
    (tmp_path / "config.yaml").write_text("INPUT:\n  NUM_FRAMES: 4\n  SAMPLING_RATE: 2\n  CROP:\n    SIZE: [32, 32]\n")
    command = [sys.executable, BENCHMARK, "data", "--config-file", tmp_path / "config.yaml", "--videos", videos]
    command += ["--num-clips", 3, "--workers", 2, "--rounds", 1, "--batches", 1, "--json", tmp_path / "figures.json"]
    command += ["OUTPUT_DIR", tmp_path / "output"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "broken.mp4" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["full"] > 0
    assert figures.keys() == {"decode", "augment", "collate", "full", "cpu", "workers"}
    assert figures["workers"].keys() == {"1", "2"}
    assert all(rate > 0 for rate in [*figures["cpu"].values(), *figures["workers"].values()])
