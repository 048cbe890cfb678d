"""Configs that nobody can mean are refused: values that make no sense, and values that nothing reads."""

from vdet_ssl.config.config import CfgNode
from vdet_ssl.config.record import Override
from vdet_ssl.config.settings import COMMAND_LINE, EPOCHS
from vdet_ssl.errors import ConfigError

# Read without a trace: by `load_cfg`, and by detectron2's `default_setup` from what `dump` gives.
_READ_BY_SETUP = {"VERSION", "OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK"}
_OF_EVALUATION = {"SOLVER.EVAL_EPOCHS", "MODEL.LOAD_PROPOSALS"}  # beside those whose names say so
# What to do instead of setting a key of detectron2's.
_COUNTERPARTS = {
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": "key frames without boxes are left out of training by their data set",
    "DATALOADER.SAMPLER_TRAIN": "training takes every sample once an epoch, shuffled",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": "set MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": "set MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TRAIN",
    "INPUT.CROP.ENABLED": "set INPUT.CROP.TYPE, which is none where nothing is cropped",
    "INPUT.MAX_SIZE_TEST": "set INPUT.MIN_SIZE_TEST, the longer side follows",
    "INPUT.MAX_SIZE_TRAIN": "set INPUT.MIN_SIZE_TRAIN, the longer side follows",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "all boxes of a key frame are trained on",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": "all boxes of a key frame are trained on",
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": "set MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS; ground truth is always trained on",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "set MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST or TEST.AVA_CAPACITY",
    "SOLVER.REFERENCE_WORLD_SIZE": "set SOLVER.REFERENCE_BATCH_SIZE",
    "TEST.DETECTIONS_PER_IMAGE": "set TEST.AVA_CAPACITY",
}


def check_values(cfg: CfgNode) -> None:
    """Raise ConfigError at the first key whose value is out of its range, none of its choices, or not a number."""
    for name, key in cfg.record.keys.items():
        key.check(cfg.peek(name))


def refuse_unread(cfg: CfgNode, *, trains: bool = True, evaluates: bool = True) -> None:
    """Raise ConfigError if a key was set, to another value than its default, that nothing has read.

    To be called when all that a run consists of has been built from the config.  A file serves training and `--eval-only`:
    it may set what only the one or the other reads.  A command line may set for an evaluation alone how it was trained,
    not for a training how it would be evaluated.

    Args:
        trains: whether this run trains.
        evaluates: whether it evaluates.
    """
    reads = cfg.record.reads | _READ_BY_SETUP
    reads |= {epochs for iterations, epochs in EPOCHS.items() if iterations in reads}
    unread = {
        name: override
        for name, override in cfg.record.overrides.items()
        if _plain(override.value) != _plain(override.default) and name not in reads
    }
    for name, override in list(unread.items()):
        from_file = override.where != COMMAND_LINE
        if (
            not trains
            and (from_file or _is_of_training(name))
            or not evaluates
            and from_file
            and _is_of_evaluation(cfg, name)
        ):
            del unread[name]
    if unread:
        (name, override), *others = unread.items()
        raise ConfigError(_message(cfg, name, override) + "".join(f"; so has {_place(*other)}" for other in others))


def _plain(value: object) -> object:
    """Return a value with lists for tuples, at any depth: yaml has no tuples."""
    return [_plain(x) for x in value] if isinstance(value, list | tuple) else value


def _is_of_training(name: str) -> bool:
    others = ("TEST.EVAL_PERIOD", "MODEL.WEIGHTS_MIN_COVERAGE", "DATALOADER.BROKEN_TOLERANCE")
    return name.startswith("SOLVER.") or name.endswith("_TRAIN") or name == "DATASETS.TRAIN" or name in others


def _is_of_evaluation(cfg: CfgNode, name: str) -> bool:
    """Whether a key is one of ours and, going by its name, of the evaluation."""
    is_named_so = name.startswith("TEST.") or name.endswith("TEST") or name in _OF_EVALUATION
    return is_named_so and name in cfg.record.keys


def _message(cfg: CfgNode, name: str, override: Override) -> str:
    task = f"{cfg.peek('MODEL.META_ARCHITECTURE')} with {cfg.peek('MODEL.BACKBONE.NAME')}"
    key = cfg.record.keys.get(name)
    needs = f"it needs {key.needs}; or " if key and key.needs else ""
    hint = _COUNTERPARTS.get(name) or f"{needs}leave it at {override.default!r}"
    return f"{_place(name, override)} has no effect, nothing in {task} reads it: {hint}"


def _place(name: str, override: Override) -> str:
    return f"{override.where}: {name} {override.value!r}"
