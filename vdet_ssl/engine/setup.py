"""From the arguments of a command line to a resolved config, with everything that can be known before training checked."""

import argparse
import logging
import os
import sys
from pathlib import Path

import torch
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from vdet_ssl.config import CfgNode, check_values, load_cfg
from vdet_ssl.data.build import load_datasets
from vdet_ssl.engine import output_dir
from vdet_ssl.engine.trainer import trainer_class
from vdet_ssl.errors import ConfigError
from vdet_ssl.solver import resolve_schedule

logger = logging.getLogger(__name__)


def setup(args: argparse.Namespace) -> CfgNode:
    """Return the frozen, resolved config of parsed arguments; set up loggers, seeds and OUTPUT_DIR/config.yaml.

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
        cfg.SEED = comm.shared_random_seed() % 2**31
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


def choose_device(cfg: CfgNode) -> None:
    """Set MODEL.DEVICE to "cpu" where it is "cuda" and there is no GPU."""
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        logger.info("No GPU is available: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"


def setup_loggers(folder: str = "") -> None:
    """Log to the screen (main process) and, given a folder, to its log.txt, which has the details too."""
    for name in ("fvcore", "detectron2", "vdet_ssl"):
        for handler in setup_logger(folder or None, distributed_rank=comm.get_rank(), name=name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
                handler.setLevel(logging.INFO)


def _start(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write config.yaml and, to log.txt, what somebody needs who looks into this run later; seed everything."""
    if comm.is_main_process():
        PathManager.mkdirs(cfg.OUTPUT_DIR)
        with PathManager.open(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), "w") as f:
            f.write(cfg.dump())
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no CUDA compiler
    logger.debug(f"Environment:\n{collect_env_info()}")
    logger.debug(f"Arguments: {args}")
    if args.config_file:
        logger.debug(f"{args.config_file}:\n{Path(args.config_file).read_text(encoding='utf-8')}")
    logger.debug(f"Full config:\n{cfg.dump()}")
    seed_all_rng(cfg.SEED + comm.get_rank())
    if not args.eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
