import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "tools" / "benchmark.py"


def test_data_benchmark_measures_every_stage(make_video, tmp_path):
    for i in range(2):
        make_video(tmp_path / f"{i}.mp4", num_frames=20)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "config.yaml").write_text("INPUT:\n  NUM_FRAMES: 4\n  SAMPLING_RATE: 2\n  CROP:\n    SIZE: [32, 32]\n")
    command = [sys.executable, BENCHMARK, "data", "--config-file", tmp_path / "config.yaml", "--videos", tmp_path]
    command += ["--num-clips", 3, "--workers", 2, "--rounds", 1, "--batches", 1, "--json", tmp_path / "figures.json"]
    command += ["OUTPUT_DIR", tmp_path / "output"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "broken.mp4" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"decode", "augment", "collate", "full", "cpu", "workers"}
    assert figures["workers"].keys() == {"1", "2"}
    assert all(rate > 0 for rate in [*figures["cpu"].values(), *figures["workers"].values()])
