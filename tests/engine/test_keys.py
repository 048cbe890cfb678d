"""No key is accepted that does nothing: each one is read by the task it is set for, or its override is refused."""

import argparse
import functools

import pytest

from vdet_ssl.config import CfgNode, ConfigError, check_values, get_cfg, load_cfg, refuse_unread
from vdet_ssl.engine import setup, trainer_class

METHODS = ("BYOL", "MoCo", "SimCLR", "SwAV")
TINY = ["MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture(scope="module")
def world(tmp_path_factory, make_video):
    """A list of labelled videos, and a movie with key frames and proposals."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("0.mp4", "1.mp4"):
        make_video(folder / name, fps=15, num_frames=30, size=(64, 128))
    (folder / "list.csv").write_text("0.mp4,0\n1.mp4,1\n")
    (folder / "movies").mkdir()
    make_video(folder / "movies/v0.mp4", fps=10, num_frames=60, size=(64, 128))
    (folder / "gt.csv").write_text("v0,2,0.1,0.1,0.6,0.9,1,0\n")
    (folder / "proposals.csv").write_text("v0,2,0.1,0.1,0.6,0.9,,0.95\n")
    (folder / "actions.pbtxt").write_text('item { name: "stand" id: 1 }\n')
    (folder / "movies.yaml").write_text("annotations: gt.csv\nlabel_map: actions.pbtxt\nvideos: movies\n")
    return folder


def pretraining(world, method, *overrides):
    return [*TINY, "MODEL.META_ARCHITECTURE", method, "DATASETS.TRAIN", world / "list.csv", *overrides]


def with_knn(world, *overrides):
    return pretraining(world, "BYOL", "TEST.KNN.ENABLED", "True", "DATASETS.TEST", world / "list.csv", *overrides)


def detection(world, *overrides):
    data = ["DATASETS.TRAIN", world / "movies.yaml", "DATASETS.TEST", world / "movies.yaml"]
    proposals = ["MODEL.LOAD_PROPOSALS", "True", "DATASETS.PROPOSAL_FILES_TEST", world / "proposals.csv"]
    model = ["MODEL.META_ARCHITECTURE", "ActionDetector", "MODEL.ROI_HEADS.NUM_CLASSES", "1"]
    return [*TINY, *model, *data, *proposals, *overrides]


def built(output, overrides):
    """The config of a run of which everything has been built, but no step taken."""
    overrides = [str(x) for x in (*overrides, "OUTPUT_DIR", output)]
    arguments = {"config_file": "", "eval_only": False, "resume": False, "overwrite": False}
    cfg = setup(argparse.Namespace(opts=overrides, **arguments))
    trainer_class(cfg)(cfg).resume_or_load(resume=False)
    return cfg


@pytest.fixture(scope="module")
def tasks(world, tmp_path_factory):
    """name -> (overrides, config of the run) of each method and of the detector."""
    overrides = {method: pretraining(world, method) for method in METHODS} | {
        "SwAV": pretraining(world, "SwAV", "SOLVER.MAX_EPOCHS", 2, "MODEL.SWAV.QUEUE_SIZE", 2),
        "BYOL with kNN": with_knn(world),
        "ActionDetector": detection(world),
    }
    return {name: (some, built(tmp_path_factory.mktemp("run"), some)) for name, some in overrides.items()}


def leaves(node, prefix=""):
    for name in node:
        value = dict.__getitem__(node, name)
        yield from leaves(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else [prefix + name]


def candidates(value):
    """Values of the same type, of which one or the other is legal."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, str):
        return ["another"]
    if value is None:
        return [0.5]
    if isinstance(value, int | float):
        return [type(value)(x) for x in (value + 1, value * 2, value / 2, 1, 0.5)]
    if len(value) == 0:
        return [["another"], [1]]
    elements = [candidates(element) for element in value]
    return [[e[i] for e in elements] for i in range(min(map(len, elements)))] + [value[:-1], [*value, value[-1]]]


@functools.cache
def another_value(name):
    """Return a legal value that is not the default; None if there is none."""
    cfg = get_cfg()
    key, value = cfg.record.keys.get(name), cfg.peek(name)
    choices = list(key.allowed) if key and isinstance(key.allowed, tuple) and not isinstance(value, list) else []
    for other in choices or candidates(value):
        try:
            cfg.merge_from_list([name, other])
            check_values(cfg)
        except ConfigError:
            continue
        if cfg.peek(name) != value:
            return other
    return None


def refused_keys(run, overrides):
    """key -> the message, of each key whose override is refused in a run with these overrides."""
    base, messages = load_cfg("", list(map(str, overrides))), {}
    base.record.reads = run.record.reads
    refuse_unread(base)
    for name in leaves(base):
        if name in overrides or another_value(name) is None:
            continue
        cfg = base.clone()
        cfg.merge_from_list([name, another_value(name)])
        try:
            refuse_unread(cfg)
        except ConfigError as error:
            assert f"command line: {name} " in str(error)
            messages[name] = str(error)
    return messages


@pytest.mark.parametrize("task", [*METHODS, "BYOL with kNN", "ActionDetector"])
def test_every_key_is_read_or_refused(tasks, task):
    overrides, run = tasks[task]
    refused = refused_keys(run, overrides).keys()
    own = {"BYOL with kNN": "BYOL"}.get(task, task).upper()
    for method in map(str.upper, METHODS):
        assert any(name.startswith(f"MODEL.{method}.") for name in refused) == (method != own)
    assert ("INPUT.FRAME_SPACING" in refused) == (task == "ActionDetector")
    assert ("TEST.KNN.K" in refused) == (task != "BYOL with kNN")
    assert ("MODEL.LOAD_PROPOSALS" in refused) == (task != "ActionDetector")
    assert ("TEST.EVAL_PERIOD" in refused) == ("SOLVER.EVAL_EPOCHS" in refused) == (task in METHODS)
    assert not refused & {"SOLVER.NESTEROV", "SOLVER.BIAS_LR_FACTOR", "MODEL.BN.EPS", "SEED", "SOLVER.MAX_EPOCHS"}
    without_entry = set(leaves(run)) - run.record.keys.keys()
    assert len(without_entry) > 100 and without_entry <= refused  # what nobody has described, nobody reads


SWITCHES = [  # what turns the reading of some keys on or off
    ("INPUT.COLOR.JITTER_PROB", 0.5, {"INPUT.COLOR.STRENGTH"}),
    ("INPUT.COLOR.BLUR_PROB", 0.5, {"INPUT.COLOR.BLUR_SIGMA"}),
    (
        "INPUT.CROP.TYPE",
        "inception",
        {"INPUT.CROP.AREA", "INPUT.CROP.ASPECT_RATIO", *(f"INPUT.MIN_SIZE_TRAIN{x}" for x in ("", "_SAMPLING"))},
    ),
    ("SOLVER.OPTIMIZER", "LARS", {"SOLVER.LARS_TRUST_COEFFICIENT"}),
    ("SOLVER.WARMUP_EPOCHS", 1, {"SOLVER.WARMUP_FACTOR", "SOLVER.WARMUP_METHOD"}),
    ("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", {"SOLVER.STEPS", "SOLVER.STEP_EPOCHS", "SOLVER.GAMMA"}),
    ("SOLVER.CLIP_GRADIENTS.ENABLED", True, {"SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE"}),
    ("SOLVER.WEIGHT_DECAY", 1e-3, set()),
    ("MODEL.RESNETS.DEPTH", 18, {f"MODEL.RESNETS.{x}" for x in ("NUM_GROUPS", "WIDTH_PER_GROUP", "STRIDE_IN_1X1")}),
    ("MODEL.RESNETS.NORM", "FrozenBN", {"MODEL.RESNETS.ZERO_INIT_RESIDUAL"}),
]


@pytest.mark.parametrize("name, value, switched", SWITCHES, ids=[name for name, _, _ in SWITCHES])
def test_keys_that_another_one_switches_are_read_only_then(world, tasks, tmp_path, name, value, switched):
    overrides, run = tasks["BYOL with kNN"]
    changed = [*overrides, name, value]
    before, after = refused_keys(run, overrides), refused_keys(built(tmp_path, changed), changed)
    assert before.keys() ^ after.keys() == switched
    assert all(" it needs " in before[key] for key in switched & before.keys())
