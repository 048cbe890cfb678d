"""Evaluation."""

from vdet_ssl.config.key import COUNT, NOT_NEGATIVE, POSITIVE, Key

_KNN = "TEST.KNN.ENABLED True"

KEYS = (
    Key("TEST.EVAL_PERIOD", 0, "iterations between two evaluations in training; 0: at its end alone"),
    Key("TEST.IMS_PER_BATCH", 8, "key frames (detection) or videos (kNN) of one process", COUNT),
    Key(
        "TEST.AVA_CAPACITY",
        50,
        "(box, class) detections kept of a key frame, as the official evaluator does; 0: all",
        NOT_NEGATIVE,
        needs="MODEL.META_ARCHITECTURE ActionDetector",
    ),
    Key(
        "TEST.KNN.ENABLED",
        False,
        "whether pre-training evaluates the kNN accuracy of the frozen features on DATASETS.TEST",
    ),
    Key("TEST.KNN.K", 20, "neighbours", COUNT, needs=_KNN),
    Key("TEST.KNN.TEMPERATURE", 0.1, "of the neighbours' votes", POSITIVE, needs=_KNN),
)
