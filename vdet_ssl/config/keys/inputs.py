"""Clips: how long they are, when they are, and how they are augmented."""

from vdet_ssl.config.key import COUNT, FRACTION, NOT_NEGATIVE, POSITIVE, Key, Range

KEYS = (
    Key("INPUT.FORMAT", "RGB", "order of the colours", ("RGB",)),
    Key("INPUT.NUM_FRAMES", 8, "T: frames of a clip", COUNT),
    Key("INPUT.SAMPLING_RATE", 8, "tau: stride between two frames of a clip, in raw frames", COUNT),
    Key(
        "INPUT.FRAME_RATE",
        30.0,
        "raw frames a second in which tau is counted; 0: the video's own frame rate",
        NOT_NEGATIVE,
    ),
    Key(
        "INPUT.FRAME_SPACING",
        "stride",
        '"stride": frame i is i * tau raw frames after the first (the paper); "linspace": T frames spread evenly from '
        "the first to the last of the T * tau raw frames, what PySlowFast does; for checkpoints trained with it",
        ("stride", "linspace"),
    ),
    Key(
        "INPUT.FRAME_RATE_JITTER",
        0.0,
        "relative: 0.5 plays each clip at 50% to 150% of its speed (Table 7)",
        Range(at_least=0, less_than=1),
    ),
    Key(
        "INPUT.NUM_CLIPS",
        2,
        "rho: clips of one video in pre-training (Table 2); 1: two spatial crops of one clip",
        COUNT,
    ),
    Key(
        "INPUT.T_MAX_S",
        -1.0,
        "longest time between the starts of two clips of a video, seconds; negative: unlimited (Table 4)",
    ),
    Key("INPUT.DECODER", "pyav", "what decodes videos (torchcodec where it is installed)", ("pyav", "torchcodec")),
    Key(
        "INPUT.AUGMENTATION_DEVICE",
        "cpu",
        '"cpu": clips are augmented in the loader\'s workers; "model": batched, where the model is',
        ("cpu", "model"),
    ),
    # Training crops (B.1, Table 8).
    Key(
        "INPUT.CROP.TYPE",
        "vgg",
        '"vgg": the short side is resized to a size drawn from MIN_SIZE_TRAIN, then a random crop of CROP.SIZE (B.1); '
        '"inception": a random fraction CROP.AREA of the frame with aspect ratio CROP.ASPECT_RATIO, resized to '
        'CROP.SIZE (Table 8); "none": the whole frame, short side resized to a size drawn from MIN_SIZE_TRAIN',
        ("vgg", "inception", "none"),
    ),
    Key("INPUT.CROP.SIZE", [224, 224], "height and width, pixels", COUNT, length=2),
    Key(
        "INPUT.CROP.AREA",
        [0.2, 0.76],
        "smallest and largest fraction of the frame's area",
        Range(more_than=0, at_most=1),
        length=2,
        ascending=True,
        needs="INPUT.CROP.TYPE inception",
    ),
    Key(
        "INPUT.CROP.ASPECT_RATIO",
        [0.75, 4.0 / 3.0],
        "smallest and largest width / height",
        POSITIVE,
        length=2,
        ascending=True,
        needs="INPUT.CROP.TYPE inception",
    ),
    Key("INPUT.MIN_SIZE_TRAIN", (256, 320), "short side in training, pixels", COUNT),
    Key(
        "INPUT.MIN_SIZE_TRAIN_SAMPLING",
        "range",
        'how one of MIN_SIZE_TRAIN is drawn: any between the two ("range"), or one of them ("choice")',
        ("range", "choice"),
    ),
    Key("INPUT.MIN_SIZE_TEST", 256, "short side in evaluation, pixels", COUNT),
    Key("INPUT.RANDOM_FLIP", "horizontal", "with probability 0.5, or not at all", ("horizontal", "none")),
    # Colour (B.1, Table 7).
    Key("INPUT.COLOR.JITTER_PROB", 0.0, "probability of colour jitter", FRACTION),
    Key(
        "INPUT.COLOR.STRENGTH",
        0.5,
        "s: brightness, contrast, saturation by +-0.8 s, hue by +-0.2 s; at s = 0.5 that is 0.4, 0.4, 0.4, 0.1",
        Range(at_least=0, at_most=1.25),  # at more, brightness could be less than nothing
        needs="INPUT.COLOR.JITTER_PROB 0.8",
    ),
    Key("INPUT.COLOR.GRAYSCALE_PROB", 0.0, "probability of grey frames", FRACTION),
    Key(
        "INPUT.COLOR.TEMPORAL_DIFFERENCE_PROB",
        0.0,
        "probability of grey frames subtracted across time (Table 7)",
        FRACTION,
    ),
    Key("INPUT.COLOR.BLUR_PROB", 0.0, "probability of Gaussian blur", FRACTION),
    Key(
        "INPUT.COLOR.BLUR_SIGMA",
        [0.1, 2.0],
        "smallest and largest standard deviation of the blur, pixels",
        POSITIVE,
        length=2,
        ascending=True,
        needs="INPUT.COLOR.BLUR_PROB 0.5",
    ),
)
