"""From a config to the loaders of training and evaluation."""

import functools
import logging

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch.utils.data import ConcatDataset

from vdet_ssl.data.datasets import VideoList, ensure_registered
from vdet_ssl.data.datasets.proposals import add_proposals
from vdet_ssl.data.loading.broken_videos import BrokenVideos
from vdet_ssl.data.loading.loaders import EvaluationLoader, Samples, TrainLoader
from vdet_ssl.data.mappers.key_frames import ActionDetectionMapper
from vdet_ssl.data.mappers.videos import PretrainMapper

_MAPPERS = {"videos": PretrainMapper, "ava": ActionDetectionMapper}  # by the data set's evaluator_type
_BATCHES_AHEAD = 2  # that workers make while one is trained on

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=8)
def _load(name, proposal_file=None):
    records = DatasetCatalog.get(ensure_registered(name))
    if proposal_file is not None:
        if not PathManager.exists(proposal_file):
            raise ValueError(f"{name}: DATASETS.PROPOSAL_FILES names {proposal_file}, which does not exist")
        add_proposals(records, proposal_file)
    if not isinstance(records, VideoList):
        records = DatasetFromList(records, copy=False)  # one array that workers share
    logger.info(f"{name}: {len(records)} records")
    return records


def dataset_size(names):
    """Return how many records the data sets of these names or paths have together."""
    return sum(len(_load(name)) for name in names)


def load_test_sets(cfg):
    """Load DATASETS.TEST and its people now, so that what is wrong with them is known before training, not after it."""
    for name, proposal_file in _proposal_files(cfg, "TEST").items():
        _load(name, proposal_file)


def _proposal_files(cfg, split):
    """Return the file of detected people, or None, for each data set of the split "TRAIN" or "TEST"."""
    names, files = cfg.DATASETS[split], cfg.DATASETS[f"PROPOSAL_FILES_{split}"]
    if not (cfg.MODEL.LOAD_PROPOSALS and files):
        return dict.fromkeys(names)
    if len(files) != len(names):
        raise ValueError(
            f"DATASETS.PROPOSAL_FILES_{split} has {len(files)} files, DATASETS.{split} {len(names)} data sets: give one "
            "file for each"
        )
    return dict(zip(names, files, strict=True))


def _evaluator_type(names):
    kinds = {MetadataCatalog.get(ensure_registered(name)).get("evaluator_type") for name in names}
    if len(kinds) != 1:
        raise ValueError(f"{list(names)} have to be data sets of one kind; evaluator_type is {kinds or 'not set'}")
    return kinds.pop()


def _default_mapper(cfg, names, is_train):
    kind = _evaluator_type(names)
    if kind not in _MAPPERS:
        raise ValueError(f"{list(names)}: give a mapper; there is none for evaluator_type {kind!r}")
    return _MAPPERS[kind](cfg, is_train)


def _worker_arguments(cfg, batch_size):
    num_workers = cfg.DATALOADER.NUM_WORKERS
    return {
        "num_workers": num_workers,
        "num_ahead": max(_BATCHES_AHEAD * batch_size, 2 * num_workers),
        # A decoder that returns checks the time by itself; twice that means that it does not.
        "timeout_s": 2 * cfg.DATALOADER.DECODE_TIMEOUT_S,
        "memory_bytes": int(cfg.DATALOADER.DECODE_MEMORY_GB * 2**30),
    }


def build_train_loader(cfg, *, mapper=None):
    """Return the TrainLoader of DATASETS.TRAIN: endless batches, `list[dict]`, of IMS_PER_BATCH / processes samples.

    Args:
        mapper: (record, rng) -> sample; default: that of the data set's kind.
    Raises:
        ValueError: SOLVER.IMS_PER_BATCH is no multiple of the number of processes, or the data sets do not fit together.
    """
    batch_size, rest = divmod(cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size())
    if rest:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; it has to be a multiple of the number of processes, "
            f"{comm.get_world_size()}"
        )
    names = cfg.DATASETS.TRAIN
    mapper = mapper or _default_mapper(cfg, names, is_train=True)
    proposals = _proposal_files(cfg, "TRAIN")
    samples = Samples(ConcatDataset([_load(name, proposals[name]) for name in names]), mapper, seed=cfg.SEED)
    if cfg.SOLVER.IMS_PER_BATCH > len(samples.records):
        logger.warning(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, {list(names)} have {len(samples.records)} records: each "
            "is in a batch more than once"
        )
    broken = BrokenVideos(
        num_videos=len(samples.records), tolerance=cfg.DATALOADER.BROKEN_TOLERANCE, output_dir=cfg.OUTPUT_DIR
    )
    return TrainLoader(samples, batch_size=batch_size, broken=broken, workers=_worker_arguments(cfg, batch_size))


def build_test_loader(cfg, dataset_name, *, mapper=None):
    """Return the EvaluationLoader of a data set: each sample once, in batches of TEST.IMS_PER_BATCH.

    Args:
        mapper: as in `build_train_loader`.
    """
    mapper = mapper or _default_mapper(cfg, [dataset_name], is_train=False)
    proposals = _proposal_files(cfg, "TEST").get(dataset_name)
    samples = Samples(_load(dataset_name, proposals), mapper, seed=cfg.SEED)
    batch_size = cfg.TEST.IMS_PER_BATCH
    return EvaluationLoader(samples, batch_size=batch_size, workers=_worker_arguments(cfg, batch_size))
