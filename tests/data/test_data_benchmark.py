import argparse
import importlib.util
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "tools" / "benchmarks"


def test_data_benchmark_measures_every_stage(make_video, tmp_path):
    for i in range(2):
        make_video(tmp_path / f"{i}.mp4", num_frames=20)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "config.yaml").write_text("INPUT:\n  NUM_FRAMES: 4\n  SAMPLING_RATE: 2\n  CROP:\n    SIZE: [32, 32]\n")
    spec = importlib.util.spec_from_file_location("data_benchmark", BENCHMARKS / "data.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    options = ["--config-file", str(tmp_path / "config.yaml"), "--videos", str(tmp_path), "--num-clips", "3"]
    options += ["--workers", "2", "--rounds", "1", "--batches", "1", "OUTPUT_DIR", str(tmp_path / "output")]
    figures = benchmark.run(parser.parse_args(options))
    assert figures.keys() == {"decode", "augment", "collate", "full", "cpu", "workers"}
    assert figures["workers"].keys() == {"1", "2"}
    assert all(rate > 0 for rate in [*figures["cpu"].values(), *figures["workers"].values()])
