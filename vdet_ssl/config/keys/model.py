"""What all models share, the backbone above all."""

from vdet_ssl.config.key import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, Key, Range

KEYS = (
    Key("MODEL.META_ARCHITECTURE", "BYOL", "what is trained: BYOL, MoCo, SimCLR, SwAV, or ActionDetector"),
    Key("MODEL.DEVICE", "cuda", '"cuda" (the CPU is taken where there is no GPU) or "cpu"'),
    Key("MODEL.WEIGHTS", "", "checkpoint that training starts from, or that is evaluated"),
    Key(
        "MODEL.WEIGHTS_MIN_COVERAGE",
        0.95,
        "fraction of the backbone that MODEL.WEIGHTS has to cover; 0 takes anything",
        FRACTION,
    ),
    Key("MODEL.PIXEL_MEAN", [114.75] * 3, "grey levels 0..255 of each channel, subtracted", length=3),
    Key("MODEL.PIXEL_STD", [57.375] * 3, "grey levels of each channel, divided by", POSITIVE, length=3),
    Key("MODEL.BACKBONE.NAME", "build_slow_resnet_backbone", "in detectron2's BACKBONE_REGISTRY"),
    Key(
        "MODEL.BACKBONE.FREEZE_AT",
        0,
        "stages that are not trained: 1 is the stem, 2 the stem and res2, and so on",
        Range(at_least=0, at_most=5),
    ),
    Key("MODEL.RESNETS.DEPTH", 50, "18 (then with RES2_OUT_CHANNELS 64), 50 or 101 (Table 5)"),
    Key("MODEL.RESNETS.OUT_FEATURES", ["res5"], "stages whose features are given to what follows"),
    Key("MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "channels of the stem", COUNT),
    Key("MODEL.RESNETS.RES2_OUT_CHANNELS", 256, "channels of res2; each further stage has twice as many", COUNT),
    Key("MODEL.RESNETS.NUM_GROUPS", 1, "groups of a bottleneck's 3 x 3 convolution; more than 1: ResNeXt", COUNT),
    Key("MODEL.RESNETS.WIDTH_PER_GROUP", 64, "channels of each group in res2", COUNT),
    Key("MODEL.RESNETS.STRIDE_IN_1X1", False, "whether the first convolution of a bottleneck has the stride"),
    Key("MODEL.RESNETS.RES5_DILATION", 1, "in space; 2 leaves res5 at stride 16 (B.3)", COUNT),
    Key("MODEL.RESNETS.NORM", "BN", '"BN" (see MODEL.BN) or "FrozenBN"'),
    Key(
        "MODEL.RESNETS.TEMPORAL_KERNELS",
        [1, 1, 1, 3, 3],
        "frames; of the stem and of the first convolution in the blocks of res2..res5 (Table 17)",
        COUNT,
    ),
    Key("MODEL.RESNETS.ZERO_INIT_RESIDUAL", True, "whether the weight of a block's last BN starts at 0"),
    # Batch normalisation wherever a norm is called "BN" (B.1)
    Key(
        "MODEL.BN.NUM_SYNC_DEVICES",
        1,
        "processes that share statistics (8 in the paper, B.1); at most all there are",
        COUNT,
    ),
    Key(
        "MODEL.BN.GROUP_SIZE",
        0,
        "samples that share statistics within one process; 0: all of them",
        NOT_NEGATIVE,
    ),
    Key("MODEL.BN.EPS", 1e-5, "added to the variance", POSITIVE),
    Key("MODEL.BN.MOMENTUM", 0.1, "weight of a batch in the running statistics", FRACTION),
)
