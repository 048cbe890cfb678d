"""Optimizer, learning rate, and how long training takes."""

import math

from vdet_ssl.config.key import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, Key, Range

_MULTI_STEP = "SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR"
_WARMUP = "SOLVER.WARMUP_ITERS or SOLVER.WARMUP_EPOCHS"
_CLIPPING = "SOLVER.CLIP_GRADIENTS.ENABLED True"

KEYS = (
    Key("SOLVER.OPTIMIZER", "SGD", "LARS for large batches (B.1)", ("SGD", "LARS")),
    Key("SOLVER.BASE_LR", 0.001, "learning rate that the schedule multiplies", NOT_NEGATIVE),
    Key(
        "SOLVER.REFERENCE_BATCH_SIZE",
        0,
        "videos of a step for which BASE_LR is meant; it is scaled to those there are.  0: it is not scaled",
        NOT_NEGATIVE,
    ),
    Key("SOLVER.MOMENTUM", 0.9, "of the gradient", Range(at_least=0, less_than=1)),
    Key("SOLVER.NESTEROV", False, "whether a step looks ahead along the momentum"),
    Key(
        "SOLVER.LARS_TRUST_COEFFICIENT",
        0.001,
        "a step's size relative to the weights' norm (B.1)",
        POSITIVE,
        needs="SOLVER.OPTIMIZER LARS",
    ),
    Key("SOLVER.WEIGHT_DECAY", 1e-4, "of weights", NOT_NEGATIVE),
    Key("SOLVER.WEIGHT_DECAY_NORM", 0.0, "of the parameters of norms", NOT_NEGATIVE),
    Key(
        "SOLVER.WEIGHT_DECAY_BIAS",
        None,
        "of biases; None: WEIGHT_DECAY with SGD, none with LARS (B.1)",
        NOT_NEGATIVE,
    ),
    Key("SOLVER.BIAS_LR_FACTOR", 1.0, "the learning rate of biases is this times that of weights", NOT_NEGATIVE),
    Key("SOLVER.CLIP_GRADIENTS.ENABLED", False, "whether gradients are clipped before a step"),
    Key(
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
        "value",
        '"value": each element; "norm": the norm of each parameter; "full_model": that of all parameters together',
        ("value", "norm", "full_model"),
        needs=_CLIPPING,
    ),
    Key("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 1.0, "largest absolute value, or largest norm", POSITIVE, needs=_CLIPPING),
    Key(
        "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
        2.0,
        "p of the p-norm; .inf (on a command line 1e999): the largest element",
        Range(more_than=0, at_most=math.inf),
        needs=f'{_CLIPPING} and SOLVER.CLIP_GRADIENTS.CLIP_TYPE "norm" or "full_model"',
    ),
    Key("SOLVER.AMP.ENABLED", False, "mixed precision on a GPU: float16 with a gradient scaler"),
    Key("SOLVER.ACCUMULATION_STEPS", 1, "batches of IMS_PER_BATCH whose gradients make one step", COUNT),
    # How long.  Epochs, where positive, give the iterations once the size of the data set is known.
    Key("SOLVER.MAX_ITER", 40000, "iterations of the whole training", COUNT),
    Key("SOLVER.MAX_EPOCHS", 0.0, "gives MAX_ITER where positive", NOT_NEGATIVE),
    Key("SOLVER.CHECKPOINT_PERIOD", 5000, "iterations between two checkpoints", COUNT),
    Key("SOLVER.CHECKPOINT_EPOCHS", 0.0, "gives CHECKPOINT_PERIOD where positive", NOT_NEGATIVE),
    Key("SOLVER.EVAL_EPOCHS", 0.0, "gives TEST.EVAL_PERIOD where positive", NOT_NEGATIVE),
    Key(
        "SOLVER.LR_SCHEDULER_NAME",
        "WarmupCosineLR",
        "half a cosine to 0 (B.1), or GAMMA times the rate at each of STEPS (B.3)",
        ("WarmupCosineLR", "WarmupMultiStepLR"),
    ),
    Key("SOLVER.STEPS", (30000,), "iterations at which the rate is multiplied by GAMMA", COUNT, needs=_MULTI_STEP),
    Key("SOLVER.STEP_EPOCHS", (), "gives STEPS where not empty", NOT_NEGATIVE, needs=_MULTI_STEP),
    Key("SOLVER.GAMMA", 0.1, "factor of the rate at each of STEPS", NOT_NEGATIVE, needs=_MULTI_STEP),
    Key("SOLVER.WARMUP_ITERS", 0, "iterations at the start in which the rate rises", NOT_NEGATIVE),
    Key("SOLVER.WARMUP_EPOCHS", 0.0, "gives WARMUP_ITERS where positive", NOT_NEGATIVE),
    Key("SOLVER.WARMUP_FACTOR", 0.001, "fraction of the rate that warm-up starts at", FRACTION, needs=_WARMUP),
    Key("SOLVER.WARMUP_METHOD", "linear", "how the rate rises", ("linear", "constant"), needs=_WARMUP),
)
