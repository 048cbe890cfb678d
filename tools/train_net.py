#!/usr/bin/env python3
"""Train or evaluate whatever a config describes: self-supervised pre-training and every project.

    tools/train_net.py --config-file configs/BYOL/slow_r50_8x8.yaml --num-gpus 8 OUTPUT_DIR output/byol
    tools/train_net.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --num-gpus 8 \\
        MODEL.WEIGHTS output/byol/model_final.pth OUTPUT_DIR output/ava
    tools/train_net.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --eval-only \\
        MODEL.WEIGHTS output/ava/model_final.pth
"""

import sys

from vdet_ssl.checkpoint import CheckpointError, VideoCheckpointer
from vdet_ssl.config import ConfigError
from vdet_ssl.data.ava_csv import AvaFormatError
from vdet_ssl.data.decode import VideoError
from vdet_ssl.data.loader import BrokenVideosError
from vdet_ssl.engine import default_argument_parser, launch, setup, trainer_class


def main(args):
    cfg = setup(args)
    trainer_type = trainer_class(cfg)
    if args.eval_only:
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError("--eval-only needs MODEL.WEIGHTS")
        model = trainer_type.build_model(cfg)
        VideoCheckpointer(model, min_coverage=1.0, whole_model=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
        return trainer_type.test(cfg, model)
    trainer = trainer_type(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    try:
        launch(main, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, (args,))
    except (ConfigError, CheckpointError, VideoError, BrokenVideosError, AvaFormatError) as e:
        sys.exit(f"{type(e).__name__}: {e}")
