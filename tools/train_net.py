#!/usr/bin/env python3
"""Train or evaluate whatever a config describes: self-supervised pre-training and every project.

    tools/train_net.py --config-file configs/BYOL/slow_r50_8x8.yaml --num-gpus 8 OUTPUT_DIR output/byol
    tools/train_net.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --num-gpus 8 \\
        MODEL.WEIGHTS output/byol/model_final.pth OUTPUT_DIR output/ava
    tools/train_net.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --eval-only \\
        MODEL.WEIGHTS output/ava/model_final.pth
"""

import functools
import sys

from vdet_ssl.checkpoint import VideoCheckpointer
from vdet_ssl.engine import default_argument_parser, launch, setup, trainer_class
from vdet_ssl.errors import BrokenVideosError, CheckpointError, ConfigError, VideoError


def main(args):
    try:
        run = prepare(args)
    except (ValueError, KeyError, OSError) as e:  # of data sets, proposals, keys that do not fit together, ...
        raise e if isinstance(e, ConfigError) else ConfigError(e.args[0] if isinstance(e, KeyError) else e) from e
    return run()


def prepare(args):
    """Return what is left to do when config, data and weights have proved right: a function without arguments."""
    cfg = setup(args)
    trainer_type = trainer_class(cfg)
    if not args.eval_only:
        trainer = trainer_type(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train
    if not (cfg.MODEL.WEIGHTS and cfg.DATASETS.TEST):
        raise ConfigError("--eval-only needs MODEL.WEIGHTS and DATASETS.TEST")
    model = trainer_type.build_model(cfg)
    VideoCheckpointer(model, min_coverage=1.0, whole_model=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    return functools.partial(trainer_type.test, cfg, model)


def parser():
    parser = default_argument_parser()
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error was raised, not its message alone"
    )
    return parser


if __name__ == "__main__":
    args = parser().parse_args()
    try:
        launch(main, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, (args,))
    except (ConfigError, CheckpointError, VideoError, BrokenVideosError, FloatingPointError) as e:
        if args.traceback:
            raise
        sys.exit(f"{type(e).__name__}: {e}")
