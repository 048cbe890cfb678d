"""Five packages as users write them, outside of the framework, run through the tools as they are."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.video import r3d_18

from vdet_ssl.errors import ConfigError

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"
TINY = [
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8),
    *("MODEL.RESNETS.ZERO_INIT_RESIDUAL", False),
]
INPUT = [
    *("INPUT.NUM_FRAMES", 2, "INPUT.SAMPLING_RATE", 4, "INPUT.MIN_SIZE_TEST", 48, "DATALOADER.NUM_WORKERS", 0),
    *("INPUT.MIN_SIZE_TRAIN", "(48, 56)"),
]
CLIPS = [*INPUT, "INPUT.CROP.SIZE", "[32, 32]"]
FRAMES = [*INPUT, "INPUT.CROP.TYPE", "none"]
COLORS = [(220, 40, 40), (40, 200, 40), (40, 40, 220)]


def tool(name, *arguments):
    """Run a tool's main function in this process, which starts faster than one of its own."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(module.parser().parse_args([str(a) for a in arguments]))


@pytest.fixture(autouse=True)
def in_the_folder_of_the_packages(monkeypatch):
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", [*sys.path])


def draw_person(kind, number, height, width):
    """RGB frame: a coloured box, moving, on grey; and where it is (XYXY in 0..1)."""
    frame = np.full((height, width, 3), 90, np.uint8)
    left = 8 + number % 24
    cv2.rectangle(frame, (left, 12), (left + 24, 52), COLORS[kind], -1)
    return frame, [left / width, 12 / height, (left + 24) / width, 52 / height]


@pytest.fixture(scope="module")
def world(tmp_path_factory, make_video):
    """Six short videos of two classes (labels.csv); three movies with a person each, and what is known of them."""
    folder = tmp_path_factory.mktemp("world")
    rows = []
    for i in range(6):
        painter = lambda number, _, height, width, kind=i % 2: draw_person(kind, number, height, width)[0]
        make_video(folder / f"{i}.mp4", fps=15, num_frames=30, size=(64, 96), painter=painter)
        rows.append(f"{i}.mp4,{i % 2}\n")
    (folder / "labels.csv").write_text("".join(rows))
    (folder / "movies").mkdir()
    records, annotations, proposals = [], [], []
    for i in range(3):
        painter = lambda number, _, height, width, kind=i: draw_person(kind, number, height, width)[0]
        movie = make_video(folder / f"movies/v{i}.mp4", fps=10, num_frames=60, size=(64, 96), painter=painter)
        for second in range(1, 5):
            box = draw_person(i, second * 10, 64, 96)[1]
            record = {"video_id": f"v{i}", "timestamp": second, "file_name": str(movie), "boxes": [box]}
            records.append({**record, "classes": [[i]]})
            text = ",".join(f"{x:.6f}" for x in box)
            annotations.append(f"v{i},{second},{text},{i + 1},0\n")
            proposals.append(f"v{i},{second},{text},,0.95\n")
    names = ("still", "stand", "blink")
    (folder / "actions.pbtxt").write_text("".join(f'item {{ name: "{n}" id: {i + 1} }}\n' for i, n in enumerate(names)))
    (folder / "gt.csv").write_text("".join(annotations))
    (folder / "proposals.csv").write_text("".join(proposals))
    (folder / "movies.yaml").write_text("annotations: gt.csv\nlabel_map: actions.pbtxt\nvideos: movies\n")
    (folder / "json_records").mkdir()
    for split in ("train", "val"):
        (folder / f"json_records/{split}.json").write_text(json.dumps(records))
    return folder


def pretrain(world, output, imports, *overrides):
    """Pre-train two iterations with kNN, evaluate again from the saved config, and return the checkpoint."""
    labels = world / "labels.csv"
    tool(
        *("train_net", "IMPORTS", imports, *CLIPS, "DATASETS.TRAIN", labels, "DATASETS.TEST", labels),
        *("TEST.KNN.ENABLED", True, "TEST.KNN.K", 2, "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 4),
        *("SOLVER.BASE_LR", 0.01, "OUTPUT_DIR", output, *overrides),
    )
    evaluate(output)
    return output / "model_final.pth"


def evaluate(output):
    """Evaluate again, from the saved config; return the folder of the results."""
    weights = ("MODEL.WEIGHTS", output / "model_final.pth")
    tool("train_net", "--eval-only", "--config-file", output / "config.yaml", *weights)
    return output / "eval_model_final"


def detect(world, output, imports, *overrides):
    """Train the detector, evaluate it again from its saved config, run it on a bare video; return its results."""
    tool(
        *("train_net", "IMPORTS", imports, *FRAMES, "MODEL.META_ARCHITECTURE", "ActionDetector"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.LOAD_PROPOSALS", True, "SOLVER.IMS_PER_BATCH", 6),
        *("DATASETS.TRAIN", world / "movies.yaml", "DATASETS.TEST", world / "movies.yaml"),
        *("DATASETS.PROPOSAL_FILES_TEST", world / "proposals.csv", "OUTPUT_DIR", output, *overrides),
    )
    results = read_results(output)
    assert read_results(evaluate(output)) == results
    tool(
        *("detect_actions", "--config-file", output / "config.yaml", "--videos", world / "movies/v0.mp4"),
        *("--proposals", world / "proposals.csv", "--label-map", world / "actions.pbtxt", "--output", output / "bare"),
        *("MODEL.WEIGHTS", output / "model_final.pth"),
    )
    assert len((output / "bare/detections.csv").read_text().splitlines()) == 4 * 3  # key frames x classes
    return results


def read_results(output):
    (results,) = output.glob("inference/*/results.json")
    return json.loads(results.read_text())


def test_a_fifth_method(world, tmp_path):
    method = ("MODEL.META_ARCHITECTURE", "SimSiam", "MODEL.SIMSIAM.HIDDEN_DIM", 16, "MODEL.SIMSIAM.EMBED_DIM", 8)
    weights = pretrain(world, tmp_path, "simsiam", *method, "INPUT.NUM_CLIPS", 3, *TINY)
    state = torch.load(weights, weights_only=True)["model"]
    assert state["predictor.3.weight"].shape == (8, 512)


def test_a_backbone_pre_trains_and_detects_and_reads_its_own_state_dict(world, tmp_path, caplog):
    torch.manual_seed(0)
    own = r3d_18().state_dict()
    torch.save(own, tmp_path / "torchvision.pth")
    backbone = ("MODEL.BACKBONE.NAME", "build_r3d_18_backbone")
    method = ("MODEL.META_ARCHITECTURE", "SimCLR", "MODEL.SIMCLR.HIDDEN_DIM", 16, "MODEL.SIMCLR.EMBED_DIM", 8)
    frozen = ("SOLVER.BASE_LR", 0.0, "MODEL.WEIGHTS", tmp_path / "torchvision.pth")
    weights = pretrain(world, tmp_path / "pretrain", "r3d_18", *backbone, *method, *frozen)
    state = torch.load(weights, weights_only=True)["model"]
    for name in ("stem.0.weight", "layer4.1.conv2.0.weight"):
        assert torch.equal(state[f"encoder.backbone.{name}"], own[name])
    results = detect(world, tmp_path / "detect", "r3d_18", *backbone, "MODEL.WEIGHTS", weights, "SOLVER.MAX_ITER", 1)
    assert set(results["AP"]) == {"still", "stand", "blink"}


def test_a_key_that_another_backbone_does_not_read_is_refused(world, tmp_path):
    keys = (
        "MODEL.BACKBONE.NAME",
        "build_r3d_18_backbone",
        "MODEL.BYOL.HIDDEN_DIM",
        16,
        "MODEL.RESNETS.RES5_DILATION",
        2,
    )
    with pytest.raises(ConfigError, match="MODEL.RESNETS.RES5_DILATION"):
        pretrain(world, tmp_path, "r3d_18", *keys)


def test_a_task_of_its_own(world, tmp_path):
    labels = ("DATASETS.TRAIN", world / "labels.csv", "DATASETS.TEST", world / "labels.csv")
    task = (
        "IMPORTS",
        "toy_classification",
        "MODEL.META_ARCHITECTURE",
        "ToyClassifier",
        "MODEL.TOY.LABEL_SMOOTHING",
        0.0,
    )
    schedule = ("SOLVER.MAX_ITER", 40, "SOLVER.IMS_PER_BATCH", 6, "SOLVER.BASE_LR", 0.02, "OUTPUT_DIR", tmp_path)
    schedule += ("MODEL.RESNETS.NORM", "FrozenBN")  # statistics of so few clips would differ from those of the test
    tool("train_net", *task, *TINY[:-2], *CLIPS, *labels, *schedule)
    evaluate(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["toy/top1"] == 100


def test_a_second_roi_head(world, tmp_path):
    head = ("MODEL.ROI_HEADS.NAME", "TimeMaxROIHeads", "MODEL.ROI_BOX_HEAD.DROPOUT", 0.0)
    results = detect(world, tmp_path, "time_max_head", *TINY, *head, "SOLVER.MAX_ITER", 30, "SOLVER.BASE_LR", 0.05)
    assert results["mAP"] > 0.9


def test_a_data_set_of_records_is_trained_and_evaluated(world, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(world))
    head = ("MODEL.ROI_BOX_HEAD.DROPOUT", 0.0, "SOLVER.MAX_ITER", 30, "SOLVER.BASE_LR", 0.05)
    names = ("DATASETS.TRAIN", "json_train", "DATASETS.TEST", "json_val")
    results = detect(world, tmp_path, "json_records", *TINY, *head, *names)
    assert results["mAP"] > 0.9
