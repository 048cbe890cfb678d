"""The self-supervised methods (section 3.2, B.1)."""

from vdet_ssl.config.key import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, Key


def _head(group: str, architecture: str, *, dim: int, hidden: int, layers: int, norm: str) -> tuple[Key, ...]:
    """Return the keys of a method's projection MLP."""
    needs = f"MODEL.META_ARCHITECTURE {architecture}"
    return (
        Key(f"{group}.EMBED_DIM", dim, "d: dimensions of an embedding", COUNT, needs=needs),
        Key(f"{group}.HIDDEN_DIM", hidden, "channels of the MLP's hidden layers", COUNT, needs=needs),
        Key(f"{group}.PROJECTOR_LAYERS", layers, "layers of the projection MLP", COUNT, needs=needs),
        Key(f"{group}.MLP_NORM", norm, "norm after the MLP's hidden layers", ("BN", ""), needs=needs),
    )


def _momentum(group: str, architecture: str, momentum: float) -> tuple[Key, ...]:
    """Return the keys of a method's momentum encoder."""
    needs = f"MODEL.META_ARCHITECTURE {architecture}"
    return (
        Key(f"{group}.MOMENTUM", momentum, "m_base of the momentum encoder", FRACTION, needs=needs),
        Key(f"{group}.ANNEAL_MOMENTUM", True, "whether m rises to 1, in half a cosine (A.3)", needs=needs),
    )


def _info_nce(group: str, architecture: str) -> tuple[Key, ...]:
    """Return the keys of eq. (1)."""
    needs = f"MODEL.META_ARCHITECTURE {architecture}"
    return (
        Key(f"{group}.TEMPERATURE", 0.1, "alpha of eq. (1)", POSITIVE, needs=needs),
        Key(
            f"{group}.MULTIPLE_POSITIVES",
            "sum",
            '"sum": eq. (1), one softmax; "mean": the mean over one softmax per positive (PySlowFast)',
            ("sum", "mean"),
            needs=needs,
        ),
    )


_BYOL = (
    *_head("MODEL.BYOL", "BYOL", dim=256, hidden=4096, layers=2, norm="BN"),
    *_momentum("MODEL.BYOL", "BYOL", 0.996),
    Key("MODEL.BYOL.PREDICTOR_LAYERS", 2, "layers of the prediction MLP", COUNT, needs="MODEL.META_ARCHITECTURE BYOL"),
    Key(
        "MODEL.BYOL.LOSS_WEIGHT",
        2.0,
        "of eq. (2); 2 makes it the squared distance of l2-normalised vectors (B.1)",
        needs="MODEL.META_ARCHITECTURE BYOL",
    ),
)
_MOCO = (
    *_head("MODEL.MOCO", "MoCo", dim=128, hidden=2048, layers=3, norm=""),
    *_momentum("MODEL.MOCO", "MoCo", 0.994),
    *_info_nce("MODEL.MOCO", "MoCo"),
    Key("MODEL.MOCO.QUEUE_SIZE", 65536, "keys in the queue", COUNT, needs="MODEL.META_ARCHITECTURE MoCo"),
    Key(
        "MODEL.MOCO.SHUFFLE_BN",
        True,
        "whether keys are computed among random samples of all processes",
        needs="MODEL.META_ARCHITECTURE MoCo",
    ),
)
_SIMCLR = (
    *_head("MODEL.SIMCLR", "SimCLR", dim=128, hidden=2048, layers=3, norm="BN"),
    *_info_nce("MODEL.SIMCLR", "SimCLR"),
)
_NEEDS_SWAV = "MODEL.META_ARCHITECTURE SwAV"
_SWAV = (
    *_head("MODEL.SWAV", "SwAV", dim=128, hidden=2048, layers=3, norm="BN"),
    Key("MODEL.SWAV.TEMPERATURE", 0.1, "of the prediction in eq. (3)", POSITIVE, needs=_NEEDS_SWAV),
    Key(
        "MODEL.SWAV.NUM_PROTOTYPES",
        3000,
        "3000 in the original SwAV, 1000 in the code released with the paper",
        COUNT,
        needs=_NEEDS_SWAV,
    ),
    Key(
        "MODEL.SWAV.FREEZE_PROTOTYPES_EPOCHS",
        1.0,
        "epochs at the start in which the prototypes are not trained",
        NOT_NEGATIVE,
        needs=f"{_NEEDS_SWAV} and SOLVER.MAX_EPOCHS",
    ),
    Key("MODEL.SWAV.SINKHORN_ITERATIONS", 3, "of the assignment to prototypes", COUNT, needs=_NEEDS_SWAV),
    Key("MODEL.SWAV.SINKHORN_EPSILON", 0.05, "smaller: harder assignments", POSITIVE, needs=_NEEDS_SWAV),
    Key(
        "MODEL.SWAV.QUEUE_SIZE",
        0,
        "videos whose embeddings, one of each clip, are kept for the Sinkhorn step; 0: none",
        NOT_NEGATIVE,
        needs=_NEEDS_SWAV,
    ),
    Key(
        "MODEL.SWAV.QUEUE_START_EPOCHS",
        15.0,
        "epochs after which the queue is filled, to be used once full (original SwAV)",
        NOT_NEGATIVE,
        needs=f"{_NEEDS_SWAV}, MODEL.SWAV.QUEUE_SIZE and SOLVER.MAX_EPOCHS",
    ),
)
KEYS = (*_BYOL, *_MOCO, *_SIMCLR, *_SWAV)
