"""The whole way, from files and a command line to a trained model and its evaluation."""

import importlib.util
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vdet_ssl.errors import ConfigError, DataError, UserError

ROOT = Path(__file__).resolve().parents[2]
TINY_BACKBONE = [
    "MODEL.RESNETS.DEPTH",
    "18",
    "MODEL.RESNETS.STEM_OUT_CHANNELS",
    "8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    "8",
]
PRETRAIN = [
    *TINY_BACKBONE,
    *["MODEL.META_ARCHITECTURE", "BYOL", "MODEL.BYOL.HIDDEN_DIM", "16", "MODEL.BYOL.EMBED_DIM", "8"],
    *[
        "INPUT.NUM_FRAMES",
        "2",
        "INPUT.SAMPLING_RATE",
        "2",
        "INPUT.MIN_SIZE_TRAIN",
        "(32,40)",
        "INPUT.CROP.SIZE",
        "[32,32]",
    ],
    *[
        "INPUT.COLOR.JITTER_PROB",
        "0.8",
        "SOLVER.OPTIMIZER",
        "LARS",
        "SOLVER.BASE_LR",
        "0.5",
        "SOLVER.IMS_PER_BATCH",
        "4",
    ],
    *["SOLVER.CHECKPOINT_PERIOD", "3", "DATALOADER.NUM_WORKERS", "0"],
]


def load_tool():
    spec = importlib.util.spec_from_file_location("train_net", ROOT / "tools/train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_here(*arguments):
    """Run tools/train_net.py's main function in this process, which starts faster."""
    tool = load_tool()
    tool.main(tool.parser().parse_args([str(a) for a in arguments]))


def train_net(*arguments, fails=False, cwd=ROOT):
    """Run tools/train_net.py; return what it printed."""
    command = [sys.executable, str(ROOT / "tools/train_net.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums in the order of this process
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, env=environment)
    assert (done.returncode != 0) == fails, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def metrics(output, key="total_loss"):
    """iteration -> value (median over the last ones), of every iteration that was written."""
    lines = [json.loads(line) for line in (Path(output) / "metrics.json").read_text().splitlines()]
    return {line["iteration"]: line[key] for line in lines if key in line}


def assert_equal(a, b):
    """Compare nested dicts and lists of tensors and plain values."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def final(output):
    return torch.load(Path(output) / "model_final.pth", weights_only=True)


@pytest.fixture(scope="module")
def videos(tmp_path_factory, make_video):
    """A list of six videos."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(6):
        make_video(folder / f"{i}.mp4", fps=15, num_frames=30, size=(64, 128))
    (folder / "list.csv").write_text("".join(f"{i}.mp4\n" for i in range(6)))
    return folder / "list.csv"


def test_a_resumed_run_is_the_run_that_never_stopped_to_the_bit(videos, tmp_path):
    base = [*PRETRAIN, "DATASETS.TRAIN", videos, "SOLVER.MAX_ITER", 6]
    run_here(*base, "OUTPUT_DIR", tmp_path / "whole")
    train_net(*base, "OUTPUT_DIR", tmp_path / "parts")
    for name in ("model_final.pth", "model_0000005.pth"):
        (tmp_path / "parts" / name).unlink()
    (tmp_path / "parts" / "last_checkpoint").write_text("model_0000002.pth")  # as if stopped after three iterations
    printed = train_net("--resume", *base, "OUTPUT_DIR", tmp_path / "parts")
    assert "Starting training from iteration 3" in printed
    whole, parts = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert whole["model"].keys() == parts["model"].keys()
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, parts["model"][name]), name
    for name in ("trainer", "iteration"):  # the optimizer's state, the loader's position
        assert_equal(whole[name], parts[name])


def test_the_screen_has_metrics_of_the_first_iteration_and_a_table_at_the_end_the_file_everything(videos, tmp_path):
    printed = train_net(*PRETRAIN, "DATASETS.TRAIN", videos, "SOLVER.MAX_ITER", 3, "OUTPUT_DIR", tmp_path)
    assert " iter: 0 " in printed and "| iterations | 3" in printed and "Warning" not in printed
    assert list(metrics(tmp_path)) == [0, 2]
    log = (tmp_path / "log.txt").read_text()
    for detail in ("(momentum_encoder): Encoder(", "NUM_PROTOTYPES: 3000", "sys.platform"):
        assert detail in log and detail not in printed


def test_the_saved_config_trains_and_resumes(videos, tmp_path):
    run_here(*PRETRAIN, "DATASETS.TRAIN", videos, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "a")
    run_here("--config-file", tmp_path / "a/config.yaml", "OUTPUT_DIR", tmp_path / "b")
    assert_equal(final(tmp_path / "b")["model"], final(tmp_path / "a")["model"])
    run_here("--resume", "--config-file", tmp_path / "a/config.yaml", "SOLVER.MAX_ITER", 3)
    assert final(tmp_path / "a")["iteration"] == 2


def test_a_config_that_is_refused_deletes_nothing(videos, tmp_path):
    base = [*PRETRAIN, "DATASETS.TRAIN", videos, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path]
    run_here(*base)
    before = {path: path.read_bytes() for path in tmp_path.glob("*") if path.name in ("config.yaml", "metrics.json")}
    for choice in ("--overwrite", "--resume"):
        with pytest.raises(ConfigError, match="INPUT.CROP.ENABLED"):
            run_here(choice, *base, "INPUT.CROP.ENABLED", True)
    assert len(before) == 2 and all(path.read_bytes() == content for path, content in before.items())
    assert final(tmp_path)["iteration"] == 1


def test_two_processes_train_as_one_does(videos, tmp_path):
    # A small rate: float32 rounding must not grow from step to step.
    base = [*PRETRAIN, "DATASETS.TRAIN", videos, "SOLVER.MAX_ITER", 3, "SOLVER.BASE_LR", 0.01]
    base += ["MODEL.BN.NUM_SYNC_DEVICES", 2, "SEED", 2**31 - 1]
    run_here(*base, "OUTPUT_DIR", tmp_path / "one")
    workers = ["DATALOADER.NUM_WORKERS", 2]
    train_net("--num-gpus", 2, "--dist-url", "auto", *base, *workers, "OUTPUT_DIR", tmp_path / "two")
    one, two = final(tmp_path / "one")["model"], final(tmp_path / "two")["model"]
    for name, tensor in one.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert metrics(tmp_path / "two") == pytest.approx(metrics(tmp_path / "one"), rel=1e-4)


def test_a_broken_video_is_named_and_tolerated_only_if_a_key_says_so(videos, tmp_path):
    folder = videos.parent
    (folder / "broken.mp4").write_bytes((folder / "0.mp4").read_bytes()[:300])
    listed = folder / "with_broken.csv"
    listed.write_text(videos.read_text() + "broken.mp4\n")
    base = [*PRETRAIN, "DATASETS.TRAIN", listed, "SOLVER.MAX_ITER", 3, "OUTPUT_DIR", tmp_path / "out"]
    printed = train_net(*base, fails=True)
    assert printed.strip().splitlines()[-1].count("broken.mp4") == 1 and "BROKEN_TOLERANCE" in printed
    run_here(*base, "DATALOADER.BROKEN_TOLERANCE", 0.2)
    rows = (tmp_path / "out" / "broken_videos.csv").read_text().splitlines()
    assert len(rows) == 2 and "broken.mp4" in rows[1]


def test_user_errors_end_in_one_line(videos, tmp_path):
    assert train_net("INPUT.NUM_CLIP", 2, fails=True).strip().endswith("the nearest one is INPUT.NUM_CLIPS")
    printed = train_net("--num-gpus", 1000, fails=True)
    assert printed.strip().splitlines()[-1].startswith("ConfigError: --num-gpus is 1000")
    printed = train_net("--eval-only", *PRETRAIN, "DATASETS.TEST", videos, "OUTPUT_DIR", tmp_path, fails=True)
    assert printed.strip().splitlines()[-1].startswith("ConfigError: --eval-only needs MODEL.WEIGHTS")


def test_a_users_error_is_one_line_whatever_the_number_of_processes(videos, tmp_path):
    base = [*PRETRAIN, "DATASETS.TRAIN", "nowhere.csv", "OUTPUT_DIR", tmp_path]
    for processes in ([], ["--num-gpus", 2, "--dist-url", "auto"]):
        printed = train_net(*processes, *base, fails=True)
        assert "Traceback" not in printed
        assert printed.strip().splitlines()[-1].startswith("DataError: nowhere.csv in DATASETS.TRAIN or TEST")
    assert "Traceback" in train_net("--traceback", *base, fails=True)


def test_an_error_while_training_has_no_traceback_before_it(videos, tmp_path):
    nan = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 1e30, "SOLVER.MAX_ITER", 9, "OUTPUT_DIR", tmp_path]
    printed = train_net(*PRETRAIN, "DATASETS.TRAIN", videos, *nan, fails=True)
    assert "Traceback" not in printed and printed.strip().splitlines()[-1].startswith("NotFiniteError: iteration ")


SLIP = """
from detectron2.modeling import META_ARCH_REGISTRY
from vdet_ssl.modeling.ssl import BYOL

@META_ARCH_REGISTRY.register()
class Slip(BYOL):
    def __init__(self, cfg):
        {}["res5"]
"""


def test_a_programmers_slip_keeps_its_traceback(videos, tmp_path):
    (tmp_path / "slip.py").write_text(SLIP)
    slip = ["IMPORTS", "slip", "MODEL.META_ARCHITECTURE", "Slip", "DATASETS.TRAIN", videos, "OUTPUT_DIR", tmp_path]
    printed = train_net(*PRETRAIN, *slip, fails=True, cwd=tmp_path)
    assert 'slip.py", line 8, in __init__' in printed and printed.strip().splitlines()[-1] == "KeyError: 'res5'"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["MODEL.META_ARCHITECTURE", "BYOLL"], "META_ARCHITECTURE 'BYOLL' is none of"),
        (["SOLVER.IMS_PER_BATCH", 0], "SOLVER.IMS_PER_BATCH is 0"),
        (["SOLVER.IMS_PER_BATCH", 1], "a process has 1 of the 1 videos of SOLVER.IMS_PER_BATCH"),
        (["SOLVER.WARMUP_ITERS", 1], "warm-up, SOLVER.WARMUP_ITERS 1, takes 100% of the training, SOLVER.MAX_ITER 1"),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "(2, 1)"],
            r"SOLVER.STEPS \(2, 1\) has to rise",
        ),
        (["DATASETS.TRAIN", "nowhere.csv"], "nowhere.csv"),
        (["DATASETS.TRAIN", "nowhere"], "nowhere"),
        (["TEST.KNN.ENABLED", True], "TEST.KNN.ENABLED needs a list"),
        (["TEST.KNN.ENABLED", True, "DATASETS.TEST", "nowhere.csv"], "nowhere.csv"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "nowhere.pth: there is no such checkpoint"),
        (
            ["SOLVER.MAX_EPOCHS", 2],
            "SOLVER.MAX_ITER and SOLVER.MAX_EPOCHS say the same thing",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_training(videos, tmp_path, overrides, message):
    base = [*PRETRAIN, "DATASETS.TRAIN", videos, "SOLVER.MAX_ITER", 1, "OUTPUT_DIR", tmp_path]
    with pytest.raises(UserError, match=message):
        run_here(*base, *overrides)


def test_the_number_of_classes_is_checked_before_training(toy, tmp_path):
    detector = ["MODEL.META_ARCHITECTURE", "ActionDetector", "MODEL.ROI_HEADS.NUM_CLASSES", 4]
    with pytest.raises(ConfigError, match="toy.yaml has 3 classes, MODEL.ROI_HEADS.NUM_CLASSES is 4"):
        run_here(*detector, "DATASETS.TRAIN", toy / "toy.yaml", "OUTPUT_DIR", tmp_path)


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("BYOL", "toy.yaml", "toy.yaml is a data set of the kind 'key_frames', BYOL takes 'videos'"),
        ("ActionDetector", "movies", "movies is a data set of the kind 'videos', ActionDetector takes 'key_frames'"),
    ],
)
def test_the_kind_of_the_data_is_checked_before_training(toy, tmp_path, model, name, message):
    with pytest.raises(ConfigError, match=message):
        run_here("MODEL.META_ARCHITECTURE", model, "DATASETS.TRAIN", toy / name, "OUTPUT_DIR", tmp_path)


def test_a_key_frame_beyond_its_movie_is_found_before_training(toy, tmp_path):
    rows = (toy / "gt.csv").read_text().splitlines(keepends=True)
    (toy / "beyond.csv").write_text("".join([*rows[:5], rows[0].replace(",0001,", ",0021,"), *rows[5:]]))
    (toy / "beyond.yaml").write_text((toy / "toy.yaml").read_text().replace("gt.csv", "beyond.csv"))
    detector = ["MODEL.META_ARCHITECTURE", "ActionDetector", "MODEL.ROI_HEADS.NUM_CLASSES", 3]
    data = ["DATASETS.TRAIN", toy / "toy.yaml", "DATASETS.TEST", toy / "beyond.yaml", "OUTPUT_DIR", tmp_path]
    proposals = ["MODEL.LOAD_PROPOSALS", True, "DATASETS.PROPOSAL_FILES_TEST", "ground_truth"]
    with pytest.raises(DataError, match=r"beyond.csv:6: the key frame v0,0021 is outside of .*v0.mp4.*from 0 to 20 s"):
        run_here(*detector, *TINY_BACKBONE, *data, *proposals)


def test_proposals_are_read_before_training(toy, tmp_path):
    detector = ["MODEL.META_ARCHITECTURE", "ActionDetector", "MODEL.ROI_HEADS.NUM_CLASSES", 3]
    detector += ["MODEL.LOAD_PROPOSALS", True, "DATASETS.TRAIN", toy / "toy.yaml", "DATASETS.TEST", toy / "toy.yaml"]
    with pytest.raises(ConfigError, match="DATASETS.PROPOSAL_FILES names nowhere.csv"):
        run_here(*detector, "DATASETS.PROPOSAL_FILES_TEST", "nowhere.csv", "OUTPUT_DIR", tmp_path)


def draw_person(kind, number, height, width):
    """RGB frame: a box that is red and still, green and still, or blue and blinking, on grey; and where it is."""
    frame = np.full((height, width, 3), 90, np.uint8)
    left = 8 + (number // 3) % 24
    color = [(220, 40, 40), (40, 200, 40), (40, 40, 220) if number // 4 % 2 else (200, 200, 40)][kind]
    cv2.rectangle(frame, (left, 12), (left + 24, 52), color, -1)
    return frame, np.array([left, 12, left + 24, 52]) / [width, height, width, height]


@pytest.fixture(scope="module")
def toy(tmp_path_factory, make_video):
    """An AVA-like data set of a user's own: three classes, 20-second videos; its yaml."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "movies").mkdir()
    rows, people = [], []
    for i in range(3):
        make_video(
            folder / f"movies/v{i}.mp4",
            fps=10,
            num_frames=200,
            size=(64, 96),
            painter=lambda number, _, height, width, kind=i: draw_person(kind, number, height, width)[0],
        )
        for second in range(1, 20):
            box = ",".join(f"{x:.4f}" for x in draw_person(i, second * 10, 64, 96)[1])
            rows.append(f"v{i},{second:04d},{box},{i + 1},0\n")
            people.append(f"v{i},{second:04d},{box},,0.95\n")
    (folder / "gt.csv").write_text("".join(rows))
    (folder / "people.csv").write_text("".join(people))
    names = ("still", "stand", "blink")
    (folder / "actions.pbtxt").write_text("".join(f'item {{ name: "{n}" id: {i + 1} }}\n' for i, n in enumerate(names)))
    (folder / "toy.yaml").write_text("annotations: gt.csv\nlabel_map: actions.pbtxt\nvideos: movies\n")
    return folder


def boxes_of(toy, video_id):
    """Yield (second, box) of each key frame of a video of the toy."""
    for row in (toy / "people.csv").read_text().splitlines():
        name, second, *box = row.split(",")[:6]
        if name == video_id:
            yield int(second), [float(x) for x in box]


def test_the_detector_overfits_a_toy_of_three_classes_and_runs_on_a_bare_video(toy, tmp_path):
    arguments = [
        *("MODEL.META_ARCHITECTURE", "ActionDetector", "MODEL.ROI_HEADS.NUM_CLASSES", 3),
        *("MODEL.RESNETS.RES5_DILATION", 2, "MODEL.LOAD_PROPOSALS", True, "MODEL.ROI_BOX_HEAD.DROPOUT", 0.0),
        *TINY_BACKBONE,
        *[
            "INPUT.NUM_FRAMES",
            "4",
            "INPUT.SAMPLING_RATE",
            "6",
            "INPUT.MIN_SIZE_TRAIN",
            "(64,64)",
            "INPUT.MIN_SIZE_TEST",
            "64",
        ],
        *["INPUT.CROP.TYPE", "none", "SOLVER.IMS_PER_BATCH", "6", "SOLVER.BASE_LR", "0.1", "SOLVER.MAX_EPOCHS", "8"],
        *("DATASETS.TRAIN", toy / "toy.yaml", "DATASETS.TEST", toy / "toy.yaml"),
        *("DATASETS.PROPOSAL_FILES_TRAIN", toy / "people.csv", "DATASETS.PROPOSAL_FILES_TEST", toy / "people.csv"),
        *("DATALOADER.NUM_WORKERS", 0),
    ]
    output = tmp_path / "toy"
    run_here(*arguments, "OUTPUT_DIR", output)
    (results,) = output.glob("inference/*/results.json")
    assert json.loads(results.read_text())["mAP"] > 0.9
    run_here("--eval-only", *arguments, "OUTPUT_DIR", tmp_path / "again", "MODEL.WEIGHTS", output / "model_final.pth")
    (again,) = (tmp_path / "again/eval_model_final").glob("inference/*/results.json")
    assert json.loads(again.read_text()) == json.loads(results.read_text())

    broken = tmp_path / "broken.mp4"
    broken.write_bytes((toy / "movies/v0.mp4").read_bytes()[:2000])
    people = {f"v0,{second:04d}": [box] for second, box in boxes_of(toy, "v0")} | {"broken,0001": [[0, 0, 1, 1]]}
    (tmp_path / "people.pkl").write_bytes(pickle.dumps(people))
    command = [sys.executable, ROOT / "tools/detect_actions.py", "--config-file", output / "config.yaml"]
    command += ["--videos", broken, toy / "movies/v0.mp4", "--proposals", tmp_path / "people.pkl"]
    command += ["--label-map", toy / "actions.pbtxt", "--output", tmp_path / "bare"]
    command += ["MODEL.WEIGHTS", output / "model_final.pth", "DATASETS.PROPOSAL_FILES_TEST", "of/another/machine.csv"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and f"1 of 2 videos are broken:\n  {broken}: " in done.stderr
    first = (tmp_path / "bare/detections.csv").read_text().splitlines()[:3]
    scores = {int(row.split(",")[6]): float(row.split(",")[7]) for row in first}
    assert max(scores, key=scores.get) == 1
    assert (tmp_path / "bare/v0_annotated.mp4").stat().st_size > 1000

    # A full disk: what was detected is there, in whole rows.
    rows = (tmp_path / "bare/detections.csv").read_text()
    limit = 2 * len(rows)
    assert limit < (tmp_path / "bare/v0_annotated.mp4").stat().st_size
    command[command.index("--videos") + 1 : command.index("--proposals")] = [toy / "movies/v0.mp4"]

    def fill_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, preexec_fn=fill_disk)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].endswith(f"File too large: '{tmp_path}/bare/v0_annotated.mp4'")
    assert (tmp_path / "bare/detections.csv").read_text() == rows
