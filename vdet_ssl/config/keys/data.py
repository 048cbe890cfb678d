"""Data sets and how they are loaded."""

from vdet_ssl.config.key import COUNT, FRACTION, NOT_NEGATIVE, Key

_WHAT = (
    "registered names, or paths: a list of videos (.csv, .txt, .parquet manifest), or the description of an AVA-like "
    "data set (.yaml); see datasets/README.md"
)
_PROPOSALS = "detected people's boxes (.csv or .pkl), one file for each data set; 'ground_truth': the annotated boxes"

KEYS = (
    Key("DATASETS.TRAIN", (), f"what is trained on: {_WHAT}"),
    Key("DATASETS.TEST", (), f"what is evaluated on: {_WHAT}"),
    Key("DATASETS.PROPOSAL_FILES_TRAIN", (), _PROPOSALS, needs="MODEL.LOAD_PROPOSALS True"),
    Key("DATASETS.PROPOSAL_FILES_TEST", (), _PROPOSALS, needs="MODEL.LOAD_PROPOSALS True"),
    Key("DATALOADER.NUM_WORKERS", 4, "processes that decode and augment; 0: the training process itself", NOT_NEGATIVE),
    Key(
        "DATALOADER.BROKEN_TOLERANCE",
        0.0,
        "fraction of the videos that may be broken before training stops; in evaluation none may",
        FRACTION,
    ),
    Key("DATALOADER.DECODE_TIMEOUT_S", 60.0, "seconds after which decoding one video is given up; 0: never", NOT_NEGATIVE),
    Key("DATALOADER.DECODE_MEMORY_GB", 4.0, "GiB that a worker may take for one video; 0: any number", NOT_NEGATIVE, needs="DATALOADER.NUM_WORKERS"),
    Key("SOLVER.IMS_PER_BATCH", 16, "videos (pre-training) or key frames (detection) of a batch, over all processes", COUNT),
)  # fmt: skip
