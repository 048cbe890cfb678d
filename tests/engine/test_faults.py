"""What a run survives: kills at chosen moments, damaged files, a full disk, a config that does not fit its checkpoint."""

import importlib.util
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from vdet_ssl.engine.output_dir import is_finished
from vdet_ssl.errors import CheckpointError, ConfigError

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.STEM_OUT_CHANNELS", 4, "MODEL.RESNETS.RES2_OUT_CHANNELS", 4),
    *("MODEL.META_ARCHITECTURE", "MoCo", "MODEL.MOCO.HIDDEN_DIM", 8, "MODEL.MOCO.EMBED_DIM", 8),
    *("MODEL.MOCO.QUEUE_SIZE", 12, "INPUT.NUM_FRAMES", 2, "INPUT.SAMPLING_RATE", 2, "INPUT.MIN_SIZE_TRAIN", "(32,40)"),
    *("INPUT.MIN_SIZE_TEST", 32, "INPUT.CROP.SIZE", "[32,32]", "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0),
    *("SOLVER.MAX_ITER", 5, "SOLVER.CHECKPOINT_PERIOD", 2),
]
KNN = ["TEST.KNN.ENABLED", True, "TEST.EVAL_PERIOD", 4]


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_here(*arguments):
    tool = load_tool("train_net")
    tool.main(tool.parser().parse_args([str(a) for a in arguments]))


def run_apart(*arguments, folder=ROOT, file_bytes=resource.RLIM_INFINITY):
    """Run tools/train_net.py in a process that finds modules in `folder` and writes no file larger than `file_bytes`."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tools/train_net.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},  # sums in the order of this process
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY)),
    )


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def assert_same_weights(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def config(tmp_path_factory, make_video):
    """Overrides of a run on four videos."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(4):
        make_video(folder / f"{i}.mp4", fps=15, num_frames=20, size=(64, 128))
    (folder / "list.csv").write_text("".join(f"{i}.mp4,{i % 2}\n" for i in range(4)))
    return [*TINY, "DATASETS.TRAIN", folder / "list.csv", "DATASETS.TEST", folder / "list.csv"]


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of an unbroken run with evaluations: checkpoints after 2, 4 and (final) 5 iterations."""
    folder = tmp_path_factory.mktemp("whole")
    run_here(*config, *KNN, "OUTPUT_DIR", folder)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of that folder."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


# Kills.

KILLER = """
import io, os, signal, torch
from vdet_ssl.evaluation import KNNEvaluator

def die(): os.kill(os.getpid(), signal.SIGKILL)

save = torch.save
def save_half(state, file):
    if {name!r} not in str(getattr(file, "name", file)):
        return save(state, file)
    buffer = io.BytesIO()
    save(state, buffer)
    file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    file.flush()
    die()

evaluate, calls = KNNEvaluator.evaluate, []
def evaluate_and_die(self):
    calls.append(self)
    return die() if len(calls) == {evaluation} else evaluate(self)

torch.save, KNNEvaluator.evaluate = save_half, evaluate_and_die
"""


def killed(config, folder, output, *, name="nothing", evaluation=0):
    """A run that is killed while the checkpoint of this name is written, or in its n-th evaluation (from 1)."""
    (folder / "killer.py").write_text(KILLER.format(name=name, evaluation=evaluation))
    done = run_apart(*config, "IMPORTS", "killer", "OUTPUT_DIR", output, folder=folder)
    assert done.returncode == -signal.SIGKILL, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("name", ["model_0000001", "model_final"])
def test_a_kill_while_a_checkpoint_is_written_costs_nothing(config, whole, tmp_path, name):
    output = tmp_path / "out"
    killed([*config, *KNN], tmp_path, output, name=name)
    assert not (output / f"{name}.pth").exists() and not is_finished(output)
    run_here("--resume", *config, *KNN, "OUTPUT_DIR", output)
    assert_same_weights(output / "model_final.pth", whole / "model_final.pth")
    assert is_finished(output) and not list(output.glob(".*.partial"))


def figures(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return {line["iteration"]: line["knn/top1"] for line in lines if "knn/top1" in line}


@pytest.mark.parametrize("evaluation", [2, 3])  # after 4 iterations; after all 5 (the first one is before training)
def test_an_evaluation_that_was_killed_is_made_up_for(config, whole, tmp_path, evaluation):
    output = tmp_path / "out"
    killed([*config, *KNN], tmp_path, output, evaluation=evaluation)
    assert not is_finished(output) and figures(output).keys() < figures(whole).keys()
    run_here("--resume", *config, *KNN, "OUTPUT_DIR", output)
    assert figures(output) == figures(whole) and list(figures(whole)) == [3, 5]
    assert is_finished(output)


# Damaged checkpoints.


def tear(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path):
    """Flip one in the middle of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
    data = bytearray(path.read_bytes())
    data[entry.header_offset + entry.file_size // 2 + 200] ^= 4
    path.write_bytes(data)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [tear, flip_a_bit, empty, Path.unlink])
def test_the_newest_whole_checkpoint_is_taken_and_said(config, whole, run, caplog, damage):
    damage(run / "model_final.pth")
    assert not is_finished(run)
    with caplog.at_level(logging.WARNING):
        run_here("--resume", *config, *KNN, "OUTPUT_DIR", run)
    (said,) = [text for text in caplog.messages if "is taken instead" in text]
    assert "model_final.pth" in said and said.endswith("model_0000003.pth is taken instead")
    assert_same_weights(run / "model_final.pth", whole / "model_final.pth")
    assert is_finished(run)


@pytest.mark.parametrize("damage", [empty, Path.unlink, lambda path: path.write_text("model_00")])
def test_without_last_checkpoint_the_newest_is_found(config, whole, run, damage):
    damage(run / "last_checkpoint")
    (run / "model_final.pth").unlink()
    run_here("--resume", *config, *KNN, "OUTPUT_DIR", run)
    assert_same_weights(run / "model_final.pth", whole / "model_final.pth")


def test_a_run_without_a_whole_checkpoint_is_not_started_again_silently(config, run):
    for path in run.glob("model_*.pth"):
        tear(path)
    with pytest.raises(CheckpointError, match="none of the checkpoints in .* is whole .*--overwrite"):
        run_here("--resume", *config, *KNN, "OUTPUT_DIR", run)


def test_a_flipped_bit_in_weights_is_an_error(config, run, tmp_path):
    flip_a_bit(run / "model_final.pth")
    with pytest.raises(CheckpointError, match="model_final.pth is damaged .the checksum of .* is wrong"):
        run_here(*config, "MODEL.WEIGHTS", run / "model_final.pth", "OUTPUT_DIR", tmp_path / "new")


# What does not fit.


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.MOCO.QUEUE_SIZE", 16], r"is of another model .* queue.items \(shape \(12, 8\) in the checkpoint, "),
        (["MODEL.META_ARCHITECTURE", "BYOL"], "is of another model"),
        (["SOLVER.IMS_PER_BATCH", 4], "began with SOLVER.IMS_PER_BATCH 2, and cannot be resumed with 4"),
        (["SOLVER.ACCUMULATION_STEPS", 2], "began with SOLVER.ACCUMULATION_STEPS 1"),
        (["SEED", 7], "began with SEED 0, and cannot be resumed with 7"),
        (["SOLVER.MAX_ITER", 3], "has 5 iterations, SOLVER.MAX_ITER is 3"),
        (["SOLVER.WEIGHT_DECAY", 0.5], r"an optimizer with weight_decay 0.0001 \(now 0.5\)"),
        (["SOLVER.OPTIMIZER", "LARS"], "an optimizer with "),
    ],
)
def test_a_config_that_does_not_fit_the_checkpoint_is_refused(config, run, overrides, message):
    before = {path: path.stat().st_mtime_ns for path in run.glob("*.[py]*")}
    with pytest.raises(CheckpointError, match=message):
        run_here("--resume", *config, *overrides, "OUTPUT_DIR", run)
    assert before == {path: path.stat().st_mtime_ns for path in run.glob("*.[py]*")}  # config.yaml is the training's


def test_a_checkpoint_without_the_state_of_a_training_is_not_resumed(config, run):
    torch.save({"model": weights(run / "model_final.pth")}, run / "model_final.pth")
    with pytest.raises(CheckpointError, match="has no state of a training .*: give it as MODEL.WEIGHTS"):
        run_here("--resume", *config, "OUTPUT_DIR", run)


def test_a_seed_that_was_drawn_is_kept(config, tmp_path):
    arguments = [*config, *KNN, "SEED", -1, "OUTPUT_DIR", tmp_path]
    run_here(*arguments)
    saved = (tmp_path / "config.yaml").read_text()
    shutil.copy(tmp_path / "model_final.pth", tmp_path / "first.pth")
    (tmp_path / "model_final.pth").unlink()
    run_here("--resume", *arguments)
    assert (tmp_path / "config.yaml").read_text() == saved
    assert_same_weights(tmp_path / "model_final.pth", tmp_path / "first.pth")


def test_a_finished_run_says_so(config, run, caplog):
    before = {path: path.stat().st_mtime_ns for path in run.glob("*.pth")}
    with caplog.at_level(logging.INFO):
        run_here("--resume", *config, *KNN, "OUTPUT_DIR", run)
    assert f"{run} is finished: all 5 iterations are done" in caplog.messages
    assert before == {path: path.stat().st_mtime_ns for path in run.glob("*.pth")} and figures(run).keys() == {3, 5}


def test_weights_that_are_not_finite_are_not_saved(config, tmp_path):
    huge = ["SOLVER.BASE_LR", 1e30, "SOLVER.WEIGHT_DECAY", 1e15, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 40]
    done = run_apart(*config, *KNN, *huge, "OUTPUT_DIR", tmp_path)
    assert done.stderr.strip().splitlines()[-1].startswith("NotFiniteError: ") and "Traceback" not in done.stderr
    for path in tmp_path.glob("model_*.pth"):
        assert all(tensor.isfinite().all() for tensor in weights(path).values())


def test_a_full_disk_is_one_line_and_leaves_the_earlier_checkpoint(config, whole, run):
    for name in ("model_final.pth", "model_0000003.pth"):
        (run / name).unlink()
    (run / "last_checkpoint").write_text("model_0000001.pth")
    size = (run / "model_0000001.pth").stat().st_size
    done = run_apart("--resume", *config, *KNN, "OUTPUT_DIR", run, file_bytes=size // 2)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1] == f"OSError: [Errno 27] File too large: '{run}/model_0000003.pth'"
    run_here("--resume", *config, *KNN, "OUTPUT_DIR", run)
    assert_same_weights(run / "model_final.pth", whole / "model_final.pth")


def test_what_would_be_ignored_or_mean_something_else_is_said(config, tmp_path, caplog):
    few = ["SOLVER.MAX_ITER", 1, "OUTPUT_DIR", tmp_path]
    with caplog.at_level(logging.WARNING):
        run_here(*config, *KNN, *few, "SOLVER.AMP.ENABLED", True, "MODEL.DEVICE", "cpu", "SOLVER.ACCUMULATION_STEPS", 2)
    assert caplog.messages == ["SOLVER.AMP.ENABLED has no effect on a CPU: training is in float32"]


@pytest.mark.parametrize("method", ["SimCLR", "SwAV"])
def test_accumulation_that_is_not_a_larger_batch_is_said(config, tmp_path, caplog, method):
    overrides = ["MODEL.META_ARCHITECTURE", method, f"MODEL.{method.upper()}.HIDDEN_DIM", 8]
    base = config[: config.index("MODEL.META_ARCHITECTURE")] + config[config.index("INPUT.NUM_FRAMES") :]
    run = [*base, *overrides, *KNN, "SOLVER.MAX_ITER", 1, "SOLVER.ACCUMULATION_STEPS", 2, "OUTPUT_DIR", tmp_path]
    with caplog.at_level(logging.WARNING):
        run_here(*run)
    (said,) = [text for text in caplog.messages if "ACCUMULATION_STEPS" in text]
    assert f"{method} compares the 2 videos of each batch among themselves" in said and "one batch of 4" in said


def test_an_error_of_the_config_leaves_a_training_alone(config, run):
    with pytest.raises(ConfigError, match="holds a training already"):
        run_here(*config, "OUTPUT_DIR", run)
