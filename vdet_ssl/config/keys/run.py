"""What concerns a run as a whole."""

from vdet_ssl.config.key import Key

KEYS = (
    Key("VERSION", 2, "of the config's format", (2,)),
    Key(
        "IMPORTS",
        [],
        "modules (projects.AVA) that are imported before keys are merged; the `add_config(cfg)` of each adds its keys",
    ),
    Key(
        "SEED",
        0,
        "everything random follows from it; negative: drawn at the start, and written to the saved config.yaml",
    ),
    Key("OUTPUT_DIR", "./output", "folder of checkpoints, metrics, logs and config.yaml"),
    Key("CUDNN_BENCHMARK", False, "whether cuDNN tries its kernels at the start and takes the fastest ones"),
)
