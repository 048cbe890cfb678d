"""What values keys can have: checked before anything is built, so that no run does something that nobody can mean."""

import math

from vdet_ssl.errors import ConfigError

# key -> smallest and largest value, of each element where it has several.
_INF = math.inf
_SHARE, _POSITIVE, _NOT_NEGATIVE, _COUNT = (0, 1), (1e-12, _INF), (0, _INF), (1, _INF)
_RANGES = {
    "INPUT.NUM_FRAMES": _COUNT,
    "INPUT.SAMPLING_RATE": _COUNT,
    "INPUT.NUM_CLIPS": _COUNT,
    "INPUT.FRAME_RATE": _NOT_NEGATIVE,
    "INPUT.CROP.SIZE": _COUNT,
    "INPUT.CROP.AREA": (1e-6, 1),
    "INPUT.CROP.ASPECT_RATIO": _POSITIVE,
    "INPUT.MIN_SIZE_TRAIN": _COUNT,
    "INPUT.MIN_SIZE_TEST": _COUNT,
    "INPUT.COLOR.JITTER_PROB": _SHARE,
    "INPUT.COLOR.STRENGTH": (0, 1.25),  # at more, brightness could be less than nothing
    "INPUT.COLOR.GRAYSCALE_PROB": _SHARE,
    "INPUT.COLOR.TEMPORAL_DIFFERENCE_PROB": _SHARE,
    "INPUT.COLOR.BLUR_PROB": _SHARE,
    "INPUT.COLOR.BLUR_SIGMA": _POSITIVE,
    "DATALOADER.NUM_WORKERS": _NOT_NEGATIVE,
    "DATALOADER.BROKEN_TOLERANCE": _SHARE,
    "DATALOADER.DECODE_TIMEOUT_S": _NOT_NEGATIVE,
    "DATALOADER.DECODE_MEMORY_GB": _NOT_NEGATIVE,
    "MODEL.PIXEL_STD": _POSITIVE,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": _COUNT,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _COUNT,
    "MODEL.BACKBONE.FREEZE_AT": (0, 5),
    "MODEL.BN.NUM_SYNC_DEVICES": _COUNT,
    "MODEL.BN.GROUP_SIZE": _NOT_NEGATIVE,
    "MODEL.BN.EPS": _POSITIVE,
    "MODEL.BN.MOMENTUM": _SHARE,
    "MODEL.BYOL.PREDICTOR_LAYERS": _COUNT,
    "MODEL.MOCO.QUEUE_SIZE": _COUNT,
    "MODEL.SWAV.NUM_PROTOTYPES": _COUNT,
    "MODEL.SWAV.FREEZE_PROTOTYPES_EPOCHS": _NOT_NEGATIVE,
    "MODEL.SWAV.SINKHORN_ITERATIONS": _COUNT,
    "MODEL.SWAV.SINKHORN_EPSILON": _POSITIVE,
    "MODEL.SWAV.QUEUE_SIZE": _NOT_NEGATIVE,
    **{f"MODEL.{method}.{key}": _COUNT for method in ("BYOL", "MOCO", "SIMCLR", "SWAV")
       for key in ("EMBED_DIM", "HIDDEN_DIM", "PROJECTOR_LAYERS")},
    **{f"MODEL.{method}.MOMENTUM": _SHARE for method in ("BYOL", "MOCO")},
    **{f"MODEL.{method}.TEMPERATURE": _POSITIVE for method in ("MOCO", "SIMCLR", "SWAV")},
    "MODEL.ROI_HEADS.NUM_CLASSES": _COUNT,
    "MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TRAIN": _SHARE,
    "MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST": _SHARE,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": _SHARE,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": _COUNT,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": _NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.DROPOUT": (0, 0.999),
    "MODEL.WEIGHTS_MIN_COVERAGE": _SHARE,
    "SOLVER.IMS_PER_BATCH": _COUNT,
    "SOLVER.BASE_LR": _NOT_NEGATIVE,
    "SOLVER.MOMENTUM": (0, 0.9999),
    "SOLVER.WEIGHT_DECAY": _NOT_NEGATIVE,
    "SOLVER.GAMMA": _NOT_NEGATIVE,
    "SOLVER.LARS_TRUST_COEFFICIENT": _POSITIVE,
    "SOLVER.REFERENCE_BATCH_SIZE": _NOT_NEGATIVE,
    "SOLVER.ACCUMULATION_STEPS": _COUNT,
    "SOLVER.MAX_ITER": _COUNT,
    "SOLVER.CHECKPOINT_PERIOD": _COUNT,
    "SOLVER.WARMUP_ITERS": _NOT_NEGATIVE,
    **{f"SOLVER.{what}_EPOCHS": _NOT_NEGATIVE for what in ("MAX", "WARMUP", "STEP", "CHECKPOINT", "EVAL")},
    "TEST.IMS_PER_BATCH": _COUNT,
    "TEST.AVA_CAPACITY": _NOT_NEGATIVE,
    "TEST.KNN.K": _COUNT,
    "TEST.KNN.TEMPERATURE": _POSITIVE,
}  # fmt: skip
_CHOICES = {
    "INPUT.FORMAT": ("RGB",),
    "INPUT.FRAME_SPACING": ("stride", "linspace"),
    "INPUT.DECODER": ("pyav", "torchcodec"),
    "INPUT.AUGMENTATION_DEVICE": ("cpu", "model"),
    "INPUT.CROP.TYPE": ("vgg", "inception", "none"),
    "INPUT.RANDOM_FLIP": ("horizontal", "none"),
    "MODEL.MOCO.MULTIPLE_POSITIVES": ("sum", "mean"),
    "MODEL.SIMCLR.MULTIPLE_POSITIVES": ("sum", "mean"),
    "SOLVER.OPTIMIZER": ("SGD", "LARS"),
}
_LENGTHS = dict.fromkeys(("INPUT.CROP.SIZE", "INPUT.CROP.AREA", "INPUT.CROP.ASPECT_RATIO", "INPUT.COLOR.BLUR_SIGMA"), 2)
_LENGTHS |= dict.fromkeys(("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"), 3)
_EPOCHS_OF = {
    "SOLVER.MAX_ITER": "SOLVER.MAX_EPOCHS",
    "SOLVER.WARMUP_ITERS": "SOLVER.WARMUP_EPOCHS",
    "SOLVER.STEPS": "SOLVER.STEP_EPOCHS",
    "SOLVER.CHECKPOINT_PERIOD": "SOLVER.CHECKPOINT_EPOCHS",
    "TEST.EVAL_PERIOD": "SOLVER.EVAL_EPOCHS",
}


def check_values(cfg):
    """Raise ConfigError at the first key whose value is out of its range, none of its choices, or not a number."""
    for key, (smallest, largest) in _RANGES.items():
        value = _get(cfg, key)
        for x in value if isinstance(value, list | tuple) else [value]:
            if not (isinstance(x, int | float) and smallest <= x <= largest and abs(x) < _INF):
                limits = f"at least {smallest:g}" if largest == _INF else f"from {smallest:g} to {largest:g}"
                raise ConfigError(f"{key} is {value!r}; it has to be {limits}")
    for key, choices in _CHOICES.items():
        if _get(cfg, key) not in choices:
            raise ConfigError(f"{key} is {_get(cfg, key)!r}; it has to be one of {', '.join(map(repr, choices))}")
    for key, length in _LENGTHS.items():
        if len(_get(cfg, key)) != length:
            raise ConfigError(f"{key} is {_get(cfg, key)!r}; it takes {length} values")
    for key in ("INPUT.CROP.AREA", "INPUT.CROP.ASPECT_RATIO", "INPUT.COLOR.BLUR_SIGMA"):
        if _get(cfg, key)[0] > _get(cfg, key)[1]:
            raise ConfigError(f"{key} is {_get(cfg, key)!r}; the smaller value comes first")


def check_schedule(cfg, opts):
    """Raise ConfigError if an override in iterations, in the list `opts`, has no effect because epochs are given."""
    for iterations, epochs in _EPOCHS_OF.items():
        value = _get(cfg, epochs)
        if iterations in opts and value not in (0, ()):
            none = "()" if isinstance(value, tuple) else "0"
            raise ConfigError(
                f"{iterations} has no effect, since {epochs} is {value}: change that, or add {epochs} {none}"
            )


def _get(cfg, key):
    for name in key.split("."):
        cfg = cfg[name]
    return cfg
