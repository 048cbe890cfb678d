"""From a config to the loaders of training and evaluation."""

import functools
import logging
from collections.abc import Mapping
from typing import Any, cast

from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch.utils.data import ConcatDataset

from vdet_ssl.config import CfgNode
from vdet_ssl.data.datasets import VideoList, load_records
from vdet_ssl.data.datasets.proposals import GROUND_TRUTH, add_proposals, check_threshold
from vdet_ssl.data.loading.broken_videos import BrokenVideos
from vdet_ssl.data.loading.loaders import EvaluationLoader, Samples, TrainLoader
from vdet_ssl.data.records import Mapper, Records
from vdet_ssl.errors import ConfigError

_BATCHES_AHEAD = 2  # that workers make while one is trained on

logger = logging.getLogger(__name__)


def load_datasets(cfg: CfgNode, split: str) -> dict[str, Records]:
    """Return the records of each data set of DATASETS.TRAIN or TEST, with their proposals; each file is read once.

    Args:
        split: "TRAIN" or "TEST".
    Raises:
        UserError: a data set or a file of proposals is missing or wrong.
    """
    files = proposal_files(cfg, split)
    _check_thresholds(cfg, split, files)
    return {name: load_dataset(name, proposals) for name, proposals in files.items()}


def load_test_set(cfg: CfgNode, name: str) -> Records:
    """Return the records of one data set, with the proposals that are its own in DATASETS.TEST."""
    proposals = proposal_files(cfg, "TEST").get(name)
    _check_thresholds(cfg, "TEST", {name: proposals})
    return load_dataset(name, proposals)


def _check_thresholds(cfg: CfgNode, split: str, files: Mapping[str, str | None]) -> None:
    """Say how many of the proposals that are used have a score over the threshold; ConfigError if nobody has."""
    key = f"MODEL.ROI_HEADS.PROPOSAL_SCORE_THRESH_{split}"
    if split == "TEST" or cfg.peek("MODEL.ROI_HEADS.TRAIN_ON_PROPOSALS"):
        for name, file in files.items():
            if file is not None:
                _check_threshold(name, file, cfg.peek(key), key)


@functools.lru_cache(maxsize=8)
def _check_threshold(name: str, file: str, threshold: float, key: str) -> None:
    check_threshold(load_dataset(name, file), file, threshold, key)


@functools.lru_cache(maxsize=8)
def load_dataset(name: str, proposal_file: str | None = None) -> Records:
    """Return the records of one data set, a registered name or a path, with the proposals of a file; read once."""
    if proposal_file is not None:
        if proposal_file != GROUND_TRUTH and not PathManager.exists(proposal_file):
            raise ConfigError(f"{name}: DATASETS.PROPOSAL_FILES names {proposal_file}, which does not exist")
        return _shared(add_proposals(load_own_records(name), proposal_file))
    return load_own_records(name)


@functools.lru_cache(maxsize=8)
def load_own_records(name: str) -> Records:
    """Return the records of one data set without proposals; read once."""
    records = load_records(name)
    logger.info(f"{name}: {len(records)} records")
    return _shared(records)


def _shared(records: Records) -> Records:
    """Put records where worker processes share them rather than each having a copy."""
    return records if isinstance(records, VideoList) else DatasetFromList(records, copy=False)


def proposal_files(cfg: CfgNode, split: str) -> Mapping[str, str | None]:
    """Return the file of proposals, or None, for each data set of the split "TRAIN" or "TEST"."""
    names, key = cfg.DATASETS[split], f"DATASETS.PROPOSAL_FILES_{split}"
    if not (cfg.peek(key) and cfg.MODEL.LOAD_PROPOSALS):  # neither is of use without the other
        return dict.fromkeys(names)
    files = cfg.DATASETS[f"PROPOSAL_FILES_{split}"]
    if len(files) != len(names):
        raise ConfigError(
            f"DATASETS.PROPOSAL_FILES_{split} has {len(files)} files, DATASETS.{split} {len(names)} data sets: give one "
            "file for each"
        )
    return dict(zip(names, files, strict=True))


def build_train_loader(cfg: CfgNode, *, mapper: Mapper, records: Records | None = None) -> TrainLoader:
    """Return endless batches, `list[dict]`, of IMS_PER_BATCH / processes samples.

    Args:
        mapper: (record, rng) -> sample.
        records: what to train on; default: those of DATASETS.TRAIN.
    Raises:
        ConfigError: SOLVER.IMS_PER_BATCH is not a multiple of the number of processes.
    """
    batch_size, rest = divmod(cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size())
    if rest:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; it has to be a multiple of the number of processes, "
            f"{comm.get_world_size()}"
        )
    if records is None:
        parts: list[Any] = list(load_datasets(cfg, "TRAIN").values())
        records = cast(Records, ConcatDataset(parts))
    if cfg.SOLVER.IMS_PER_BATCH > len(records):
        logger.warning(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, there are {len(records)} records: each is in a batch "
            "more than once"
        )
    broken = BrokenVideos(num_videos=len(records), tolerance=cfg.DATALOADER.BROKEN_TOLERANCE, output_dir=cfg.OUTPUT_DIR)
    samples = Samples(records, mapper, seed=cfg.SEED)
    return TrainLoader(samples, batch_size=batch_size, broken=broken, workers=_worker_arguments(cfg, batch_size))


def build_test_loader(cfg: CfgNode, records: Records, *, mapper: Mapper) -> EvaluationLoader:
    """Return each sample once, in batches of TEST.IMS_PER_BATCH.

    Args:
        records: of a data set, see `load_datasets`, or any list.
        mapper: (record, rng) -> sample.
    """
    samples = Samples(records, mapper, seed=cfg.SEED)
    batch_size = cfg.TEST.IMS_PER_BATCH
    return EvaluationLoader(samples, batch_size=batch_size, workers=_worker_arguments(cfg, batch_size))


def _worker_arguments(cfg: CfgNode, batch_size: int) -> dict[str, Any]:
    num_workers = cfg.DATALOADER.NUM_WORKERS
    return {
        "num_workers": num_workers,
        "num_ahead": max(_BATCHES_AHEAD * batch_size, 2 * num_workers),
        # A decoder that returns checks the time by itself; twice that means that it does not.
        "timeout_s": 2 * cfg.DATALOADER.DECODE_TIMEOUT_S,
        "memory_bytes": int(cfg.DATALOADER.DECODE_MEMORY_GB * 2**30) if num_workers else 0,
    }
