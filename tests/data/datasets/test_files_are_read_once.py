"""A run of the detector, from the command line to AVA's metric, opens each file of annotations once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COUNTING = """
import collections, json, os, runpy, sys

folder, tool, *sys.argv[1:] = sys.argv[1:]
opens = collections.Counter()

def count(event, args):
    if event == "open" and isinstance(args[0], str) and os.path.dirname(args[0]) == folder:
        opens[os.path.basename(args[0])] += 1

sys.addaudithook(count)
runpy.run_path(tool, run_name="__main__")
print("opens", json.dumps(opens))
"""
ARGUMENTS = [
    *("MODEL.META_ARCHITECTURE", "ActionDetector", "MODEL.ROI_HEADS.NUM_CLASSES", 2, "MODEL.LOAD_PROPOSALS", True),
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.STEM_OUT_CHANNELS", 4, "MODEL.RESNETS.RES2_OUT_CHANNELS", 4),
    *("INPUT.NUM_FRAMES", 2, "INPUT.SAMPLING_RATE", 2, "INPUT.MIN_SIZE_TRAIN", "(32,32)", "INPUT.MIN_SIZE_TEST", 32),
    *("INPUT.CROP.TYPE", "none", "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1),
    *("DATALOADER.NUM_WORKERS", 0, "MODEL.DEVICE", "cpu"),
]


@pytest.fixture
def world(tmp_path, make_video):
    """Folder of two data sets of one movie, which share the list of actions and the proposals."""
    (tmp_path / "movies").mkdir()
    make_video(tmp_path / "movies/v.mp4", fps=10, num_frames=60, size=(32, 48))
    (tmp_path / "actions.pbtxt").write_text('item { name: "sit" id: 1 } item { name: "walk" id: 2 }')
    (tmp_path / "proposals.csv").write_text("".join(f"v,{second},0.1,0.1,0.6,0.9,,0.9\n" for second in range(1, 6)))
    for split, seconds in {"train": (1, 2, 3), "val": (4, 5)}.items():
        rows = [f"v,{second},0.1,0.1,0.6,0.9,{1 + second % 2},0\n" for second in seconds]
        (tmp_path / f"{split}.csv").write_text("".join(rows))
        (tmp_path / f"excluded_{split}.csv").write_text("v,3\n")
        files = [f"annotations: {split}.csv", f"excluded_timestamps: excluded_{split}.csv"]
        files += ["label_map: actions.pbtxt", "videos: movies"]
        (tmp_path / f"{split}.yaml").write_text("\n".join(files))
    return tmp_path


def test_files_are_read_once(world):
    files = [
        "DATASETS.TRAIN",
        world / "train.yaml",
        "DATASETS.TEST",
        world / "val.yaml",
        "OUTPUT_DIR",
        world / "output",
    ]
    for split in ("TRAIN", "TEST"):
        files += [f"DATASETS.PROPOSAL_FILES_{split}", world / "proposals.csv"]
    command = [sys.executable, "-c", COUNTING, world, ROOT / "tools/train_net.py", *ARGUMENTS, *files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert list(world.glob("output/inference/*/results.json"))  # it was evaluated, once after each iteration
    opens = json.loads(done.stdout.splitlines()[-1].removeprefix("opens "))
    assert opens == {path.name: 1 for path in world.iterdir() if path.is_file()}
