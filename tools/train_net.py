#!/usr/bin/env python3
"""Train or evaluate whatever a config describes: self-supervised pre-training and every project.

    tools/train_net.py --config-file configs/BYOL/slow_r50_8x8.yaml --num-gpus 8 OUTPUT_DIR output/byol
    tools/train_net.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --num-gpus 8 \\
        MODEL.WEIGHTS output/byol/model_final.pth OUTPUT_DIR output/ava
    tools/train_net.py --config-file projects/AVA/configs/slow_r50_8x8.yaml --eval-only \\
        MODEL.WEIGHTS output/ava/model_final.pth
    tools/train_net.py --help-keys INPUT
"""

import argparse
import os
import sys

from vdet_ssl.errors import one_line_errors

# Heavy imports stand where they are used: --help takes no time.


def main(args: argparse.Namespace) -> None:
    from vdet_ssl.checkpoint import load_whole_model
    from vdet_ssl.config import refuse_unread
    from vdet_ssl.engine import setup, trainer_class

    cfg = setup(args)
    task = trainer_class(cfg)
    if args.eval_only:
        model = task.build_model(cfg)
        load_whole_model(model, cfg.MODEL.WEIGHTS)
        evaluations = task.build_evaluations(cfg)
        task.build_mapper(cfg, is_train=True)  # reads its keys: a training's command line can be used again
        refuse_unread(cfg, trains=False)
        task.test(cfg, model, evaluations)
    else:
        trainer = task(cfg)
        trainer.resume_or_load(resume=args.resume)
        refuse_unread(cfg, evaluates=bool(trainer.evaluations))
        trainer.train()


def help_keys(args: argparse.Namespace) -> None:
    from vdet_ssl.config import load_cfg
    from vdet_ssl.config.help import format_keys

    print(format_keys(args.help_keys, load_cfg(args.config_file, args.opts)))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="yaml of keys that differ from the defaults")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    start.add_argument("--overwrite", action="store_true", help="delete the training that is in OUTPUT_DIR, if any")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes on each machine")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="I", help="which of the machines this is")
    port = 49152 + hash(os.getuid() if hasattr(os, "getuid") else 1) % 16384  # as detectron2: a user's own
    parser.add_argument("--dist-url", default=f"tcp://127.0.0.1:{port}", help="where processes meet; auto: a free port")
    parser.add_argument(
        "--help-keys", nargs="?", const="", metavar="PREFIX", help="print what the keys of a config mean"
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised, not one line alone")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides of the config")
    return parser


if __name__ == "__main__":
    args = parser().parse_args()
    with one_line_errors(args.traceback):
        if args.help_keys is not None:
            sys.exit(help_keys(args))
        from vdet_ssl.engine import launch

        launch(main, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, (args,))
