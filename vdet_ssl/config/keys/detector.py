"""The action detector (B.3)."""

from vdet_ssl.config.key import COUNT, FRACTION, NOT_NEGATIVE, Key, Range

_NEEDS = "MODEL.META_ARCHITECTURE ActionDetector"

KEYS = (
    Key(
        "MODEL.LOAD_PROPOSALS",
        False,
        "whether the files of proposals are read",
        needs="DATASETS.PROPOSAL_FILES_TRAIN or _TEST",
    ),
    Key("MODEL.ROI_HEADS.NAME", "ActionROIHeads", "in detectron2's ROI_HEADS_REGISTRY", needs=_NEEDS),
    Key("MODEL.ROI_HEADS.IN_FEATURES", ["res5"], "the backbone's features that boxes are pooled from", needs=_NEEDS),
    Key("MODEL.ROI_HEADS.NUM_CLASSES", 60, "has to be the number of classes in the data set's list", COUNT),
    Key(
        "MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS",
        False,
        "whether detected people are trained on beside the ground-truth boxes",
        needs=_NEEDS,
    ),
    Key(
        "MODEL.ROI_HEADS.IOU_THRESHOLDS",
        [0.5],
        "a proposal takes the labels of the ground-truth box that it overlaps this much",
        FRACTION,
        needs="MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS True",
    ),
    Key(
        "MODEL.ROI_HEADS.IOU_LABELS",
        [0, 1],
        "of the intervals between IOU_THRESHOLDS: 1 takes the labels, 0 has none, -1 is left out",
        (0, 1, -1),
        needs="MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS True",
    ),
    Key(
        "MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TRAIN",
        0.9,
        "least confidence of the person detector in what is trained on",
        FRACTION,
        needs="MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS True",
    ),
    Key(
        "MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_TEST",
        0.8,
        "least confidence of the person detector in what is evaluated",
        FRACTION,
        needs=_NEEDS,
    ),
    Key("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7, "height and width of a pooled box", COUNT, needs=_NEEDS),
    Key(
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO",
        0,
        "samples of a bin in each direction; 0: as many as it has pixels",
        NOT_NEGATIVE,
        needs=_NEEDS,
    ),
    Key(
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE",
        "ROIAlignV2",
        "as in detectron2's ROIPooler",
        ("ROIAlignV2", "ROIAlign", "ROIPool"),
        needs=_NEEDS,
    ),
    Key(
        "MODEL.ROI_BOX_HEAD.DROPOUT",
        0.5,
        "fraction of a box's features that is dropped in training",
        Range(at_least=0, less_than=1),
        needs=_NEEDS,
    ),
)
