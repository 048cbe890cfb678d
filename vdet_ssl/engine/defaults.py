"""From a command line to a resolved config and the trainer that fits it."""

import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser, default_setup
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from vdet_ssl.config import check_values, load_cfg
from vdet_ssl.data.build import dataset_size, load_test_sets
from vdet_ssl.data.datasets import ensure_registered
from vdet_ssl.engine.trainer import SSLTrainer, VideoTrainer
from vdet_ssl.errors import ConfigError
from vdet_ssl.modeling.ssl import SSLMethod
from vdet_ssl.solver import resolve_schedule

__all__ = ["default_argument_parser", "setup", "trainer_class"]


def setup(args):
    """Return the frozen, resolved config of parsed arguments; set up loggers, seeds and OUTPUT_DIR/config.yaml.

    Resolved means: the device is one this machine has, epochs are iterations, and the learning rate is scaled to the
    batch (what was changed is logged).
    """
    cfg = load_cfg(args.config_file, args.opts)
    check_values(cfg)
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="vdet_ssl")
    if cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed() % 2**31
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        logger.info("No GPU is available: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"
    tests = args.eval_only or evaluates(cfg)
    check_datasets(cfg, (() if args.eval_only else cfg.DATASETS.TRAIN) + (cfg.DATASETS.TEST if tests else ()))
    if tests:
        load_test_sets(cfg)
    if not args.eval_only:
        resolve_schedule(cfg, dataset_size(cfg.DATASETS.TRAIN))
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def check_datasets(cfg, names):
    """Raise ConfigError if a data set is not of the kind that the model takes, or names another number of classes."""
    wanted = getattr(architecture(cfg), "evaluator_type", None)
    for name in dict.fromkeys(names):
        metadata = MetadataCatalog.get(ensure_registered(name))
        kind = metadata.get("evaluator_type")
        if None not in (wanted, kind) and kind != wanted:
            raise ConfigError(
                f"{name} is a data set of the kind {kind!r}, {cfg.MODEL.META_ARCHITECTURE} takes {wanted!r} "
                "(datasets/README.md says which files give which)"
            )
        classes = metadata.get("thing_classes")
        if classes is not None and len(classes) != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
            raise ConfigError(
                f"{name} has {len(classes)} classes, MODEL.ROI_HEADS.NUM_CLASSES is {cfg.MODEL.ROI_HEADS.NUM_CLASSES}"
            )


def evaluates(cfg):
    """Whether training evaluates on DATASETS.TEST: pre-training does if TEST.KNN.ENABLED."""
    if trainer_class(cfg) is not SSLTrainer:
        return True
    if cfg.TEST.KNN.ENABLED and not cfg.DATASETS.TEST:
        raise ConfigError(
            "TEST.KNN.ENABLED needs a list of labelled videos in DATASETS.TEST; without one, set it to False"
        )
    return cfg.TEST.KNN.ENABLED


def trainer_class(cfg):
    """SSLTrainer where MODEL.META_ARCHITECTURE is a self-supervised method, else VideoTrainer."""
    return SSLTrainer if issubclass(architecture(cfg), SSLMethod) else VideoTrainer


def architecture(cfg):
    """Return the class that MODEL.META_ARCHITECTURE names; ConfigError if there is none."""
    if cfg.MODEL.META_ARCHITECTURE not in META_ARCH_REGISTRY:
        known = ", ".join(name for name, _ in META_ARCH_REGISTRY)
        raise ConfigError(f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE!r} is none of {known}")
    return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
