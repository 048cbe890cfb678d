"""From the arguments of a command line to a resolved config, with everything that can be known before training checked."""

import argparse
import contextlib
import logging
import sys
from functools import partial
from pathlib import Path

import torch
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from vdet_ssl.checkpoint.whole import glance, newest_checkpoint
from vdet_ssl.config import CfgNode, check_values, load_cfg
from vdet_ssl.data.build import load_datasets
from vdet_ssl.engine import output_dir
from vdet_ssl.engine.trainer import trainer_class
from vdet_ssl.errors import ConfigError
from vdet_ssl.solver import resolve_schedule

logger = logging.getLogger(__name__)


def setup(args: argparse.Namespace) -> CfgNode:
    """Return the frozen, resolved config of parsed arguments; set up OUTPUT_DIR, loggers and seeds.

    Resolved means: the device is one this machine has, epochs are iterations, and the learning rate is scaled to the
    batch (what was changed is logged).

    Args:
        args: has config_file, opts (list of KEY VALUE), eval_only, resume, overwrite.
    Raises:
        UserError: config and data are wrong, or do not fit together.
    """
    cfg = load_cfg(args.config_file, args.opts)
    check_values(cfg)
    task = trainer_class(cfg)
    if args.eval_only and not (cfg.MODEL.WEIGHTS and cfg.DATASETS.TEST):
        raise ConfigError("--eval-only needs MODEL.WEIGHTS and DATASETS.TEST")
    if args.eval_only:
        cfg.OUTPUT_DIR = output_dir.evaluation_folder(cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS)
    elif comm.is_main_process():
        output_dir.claim(cfg.OUTPUT_DIR, resume=args.resume, overwrite=args.overwrite)
    comm.synchronize()
    setup_loggers(cfg.OUTPUT_DIR)
    if cfg.SEED < 0:
        cfg.SEED = _drawn_seed(cfg.OUTPUT_DIR if args.resume else "")
    choose_device(cfg)
    splits = [] if args.eval_only else ["TRAIN"]
    if args.eval_only or task.evaluates(cfg):
        splits.append("TEST")
    task.check_datasets(cfg, [name for split in splits for name in cfg.DATASETS[split]])
    records = {split: load_datasets(cfg, split) for split in splits}
    if not args.eval_only:
        resolve_schedule(cfg, sum(map(len, records["TRAIN"].values())))
    cfg.freeze()
    _start(cfg, args)
    return cfg


def _drawn_seed(resumed_folder: str) -> int:
    """Return the seed that the training in a folder drew; where there is none, a new one, the same in all processes."""
    path = newest_checkpoint(resumed_folder) if resumed_folder and comm.is_main_process() else None
    kept = glance(path).get("trainer", {}).get("kept", {}) if path else {}
    new = comm.shared_random_seed() % 2**31
    return comm.all_gather(kept.get("SEED", new))[0]


def choose_device(cfg: CfgNode) -> None:
    """Set MODEL.DEVICE to "cpu" where it is "cuda" (or "cuda:1") and there is no GPU."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("No GPU is available: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"
    if cfg.peek("SOLVER.AMP.ENABLED") and cfg.MODEL.DEVICE == "cpu":
        logger.warning("SOLVER.AMP.ENABLED has no effect on a CPU: training is in float32")


def setup_loggers(folder: str = "") -> None:
    """Log to the screen (main process) and, given a folder, to its log.txt, which has the details too."""
    for name in ("fvcore", "detectron2", "vdet_ssl"):
        for handler in setup_logger(folder or None, distributed_rank=comm.get_rank(), name=name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
                handler.setLevel(logging.INFO)
            elif isinstance(handler, logging.StreamHandler):
                handler.handleError = partial(_close_log, handler)  # type: ignore[method-assign]  # of this object alone


def _close_log(handler: logging.StreamHandler, record: logging.LogRecord) -> None:
    """Say once that log.txt cannot be written (the disk is full), rather than with a traceback for each of its lines."""
    if not handler.stream.closed:
        print(f"{handler.stream.name} is not written any more: {sys.exc_info()[1]}", file=sys.stderr)
        with contextlib.suppress(OSError):
            handler.stream.close()


def _start(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write to log.txt what somebody needs who looks into this run later; seed everything.

    An evaluation's config.yaml is written here, a training's when it is clear that it can go on from its checkpoint.
    """
    if args.eval_only and comm.is_main_process():
        output_dir.save_config(cfg)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no CUDA compiler
    logger.debug(f"Environment:\n{collect_env_info()}")
    logger.debug(f"Arguments: {args}")
    if args.config_file:
        logger.debug(f"{args.config_file}:\n{Path(args.config_file).read_text(encoding='utf-8')}")
    logger.debug(f"Full config:\n{cfg.dump()}")
    seed_all_rng(cfg.SEED + comm.get_rank())
    if not args.eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
