"""The task of self-supervised pre-training."""

import functools
from typing import Any, cast

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vdet_ssl.config import CfgNode
from vdet_ssl.data.build import build_test_loader, load_datasets, load_test_set
from vdet_ssl.data.loading.loaders import TrainLoader
from vdet_ssl.data.mappers import VideoMapper
from vdet_ssl.data.records import Mapper
from vdet_ssl.data.transforms import augment_batch
from vdet_ssl.engine.hooks import InitialEval
from vdet_ssl.engine.train_loop import SSLStepTrainer
from vdet_ssl.engine.trainer import Evaluation, VideoTrainer
from vdet_ssl.errors import ConfigError
from vdet_ssl.evaluation.knn import KNNEvaluator
from vdet_ssl.modeling.ssl import SSLMethod


class SSLTrainer(VideoTrainer):
    """Pre-training with any method of `vdet_ssl.modeling.ssl` (section 3.2) on videos without labels.

    With TEST.KNN.ENABLED the frozen features are judged by kNN accuracy, before the first step too.
    """

    architectures = (SSLMethod,)
    data_kind = "videos"

    @classmethod
    def build_mapper(cls, cfg: CfgNode, is_train: bool) -> Mapper:
        return VideoMapper.for_pretraining(cfg) if is_train else VideoMapper.for_features(cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> KNNEvaluator:
        """kNN accuracy on `dataset_name`; its bank is the labelled data sets of DATASETS.TRAIN, else itself.

        Raises:
            ConfigError: the videos have no labels, or there is one alone and no bank.
        """
        records = load_test_set(cfg, dataset_name)
        if "label" not in records[0]:
            raise ConfigError(
                f"TEST.KNN.ENABLED needs labels, and {dataset_name} in DATASETS.TEST has none (datasets/README.md says how "
                "a list has them): take a labelled one, or set it to False"
            )
        mapper = cls.build_mapper(cfg, is_train=False)
        others = [bank for name, bank in load_datasets(cfg, "TRAIN").items() if name != dataset_name]
        banks = [bank for bank in others if "label" in bank[0]]
        if not banks and len(records) < 2:
            raise ConfigError(
                f"TEST.KNN.ENABLED: {dataset_name} has one video, and there are no others to compare it with"
            )
        return KNNEvaluator(
            bank_loaders=[build_test_loader(cfg, bank, mapper=mapper) for bank in banks],
            k=cfg.TEST.KNN.K,
            temperature=cfg.TEST.KNN.TEMPERATURE,
            device=cfg.MODEL.DEVICE,
        )

    @classmethod
    def evaluates(cls, cfg: CfgNode) -> bool:
        if cfg.TEST.KNN.ENABLED and not cfg.DATASETS.TEST:
            raise ConfigError(
                "TEST.KNN.ENABLED needs a list of labelled videos in DATASETS.TEST; without one, set it to False"
            )
        return cfg.TEST.KNN.ENABLED

    def build_step_trainer(self, model: nn.Module, data_loader: TrainLoader, optimizer: Any) -> SSLStepTrainer:
        unwrapped = model.module if isinstance(model, DistributedDataParallel) else model
        cast(SSLMethod, unwrapped).check_batch(self.cfg.SOLVER.IMS_PER_BATCH)
        on_model = self.cfg.INPUT.AUGMENTATION_DEVICE == "model"
        augment = functools.partial(augment_batch, device=self.cfg.MODEL.DEVICE) if on_model else None
        max_iter = self.cfg.SOLVER.MAX_ITER
        return SSLStepTrainer(
            model, data_loader, optimizer, max_iter=max_iter, augment=augment, **self.step_arguments()
        )

    def build_hooks(self) -> list[Any]:
        """As for other tasks; what training starts from is evaluated too."""
        ret = super().build_hooks()
        return [InitialEval(self.evaluate), *ret] if self.evaluations else ret

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluations: dict[str, Evaluation] | None = None) -> dict:
        """kNN accuracy on DATASETS.TEST; the evaluators' banks are filled first."""
        evaluations = cls.build_evaluations(cfg) if evaluations is None else evaluations
        for _, evaluator in evaluations.values():
            evaluator.fill_bank(model)
        return super().test(cfg, model, evaluations)
