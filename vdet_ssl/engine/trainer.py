"""A trainer is a task: one class says everything about it, and the tools find it by the model that it trains."""

import contextlib
import datetime
import logging
import time
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from detectron2.engine import TrainerBase, create_ddp_model, hooks
from detectron2.engine.defaults import default_writers
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from tabulate import tabulate
from torch import nn

from vdet_ssl.checkpoint import VideoCheckpointer
from vdet_ssl.config import CfgNode
from vdet_ssl.data.build import build_test_loader, build_train_loader, load_own_records, load_test_set
from vdet_ssl.data.datasets import dataset_kind, dataset_metadata
from vdet_ssl.data.loading.loaders import EvaluationLoader, TrainLoader
from vdet_ssl.data.records import Mapper
from vdet_ssl.engine.hooks import DueEvaluation, EvalHook, LRSchedule, PeriodicCheckpointer, PeriodicWriter
from vdet_ssl.engine.output_dir import clear, due_evaluation, save_config
from vdet_ssl.engine.train_loop import StepTrainer
from vdet_ssl.errors import CheckpointError, ConfigError, DataError, is_users_error
from vdet_ssl.modeling.registered import find_registered
from vdet_ssl.solver import build_lr_multiplier, build_optimizer

logger = logging.getLogger(__name__)

Evaluation = tuple[EvaluationLoader, DatasetEvaluator]

# What a training that goes on has to have in common with its beginning, beside the model.
_KEPT = ("SEED", "SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATION_STEPS")


class VideoTrainer(TrainerBase):
    """The base of all tasks: detectron2's trainer for one task on video, from a config.

    A subclass is a task.  It names the models that it trains (`architectures`) and the data that it takes (`data_kind`,
    `num_classes_key`), and builds what turns records into samples (`build_mapper`) and judges the model
    (`build_evaluator`).  Nothing has to be registered: `trainer_class` finds it among the subclasses.

    A resumed run is the run that never stopped, to the bit on a CPU: the step's random numbers follow from
    (seed, iteration, rank), the loader continues at the position where it was, and the learning rate is a function of
    progress.

    Attributes:
        architectures: classes of MODEL.META_ARCHITECTURE that the task trains; their subclasses are among them.
        data_kind: of the data sets that it takes, see `vdet_ssl.data.datasets.dataset_kind`.
        num_classes_key: the key that has to be the number of a data set's classes; None: there is none.
    """

    architectures: ClassVar[tuple[type, ...]] = ()
    data_kind: ClassVar[str] = ""
    num_classes_key: ClassVar[str | None] = None
    iter: int

    def __init__(self, cfg: CfgNode) -> None:
        """Build everything that training and its evaluations need.

        Args:
            cfg: a config whose schedule is resolved (`vdet_ssl.engine.setup`).
        """
        super().__init__()
        self.cfg = cfg
        self.loader_states: list[dict] | None = None
        self.last_results: dict = {}
        self.data_loader = self.build_train_loader(cfg)
        self.model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, self.model)
        ddp_arguments = {} if torch.cuda.is_available() else {"device_ids": None}
        self.model = create_ddp_model(self.model, broadcast_buffers=False, **ddp_arguments)
        self.step = self.build_step_trainer(self.model, self.data_loader, optimizer)
        self.checkpointer = VideoCheckpointer(
            self.model, cfg.OUTPUT_DIR, min_coverage=cfg.MODEL.WEIGHTS_MIN_COVERAGE, trainer=weakref.proxy(self)
        )
        self.evaluations = self.build_evaluations(cfg) if self.evaluates(cfg) else {}
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    # What a task says.

    @classmethod
    def build_mapper(cls, cfg: CfgNode, is_train: bool) -> Mapper:
        """Return what makes a sample (dict) of a record and a numpy.random.Generator."""
        raise NotImplementedError

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Return the evaluator for an entry of DATASETS.TEST."""
        raise NotImplementedError

    @classmethod
    def evaluates(cls, cfg: CfgNode) -> bool:
        """Say whether training evaluates on DATASETS.TEST; raise ConfigError if what that takes is missing."""
        return len(cfg.DATASETS.TEST) > 0

    @classmethod
    def check_datasets(cls, cfg: CfgNode, names: Sequence[str]) -> None:
        """Raise UserError if a data set is not of the kind that the task takes, or has another number of classes."""
        for name in dict.fromkeys(names):
            kind = dataset_kind(name)
            if kind not in (None, cls.data_kind):
                raise ConfigError(
                    f"{name} is a data set of the kind {kind!r}, {cfg.MODEL.META_ARCHITECTURE} takes {cls.data_kind!r} "
                    "(datasets/README.md says which files give which)"
                )
            if kind is None and cls.data_kind == "key_frames" and "boxes" not in load_own_records(name)[0]:
                raise DataError(
                    f'{name}: record 0 has no "boxes", {cfg.MODEL.META_ARCHITECTURE} takes records of key frames'
                )
            classes = dataset_metadata(name).get("thing_classes")
            if cls.num_classes_key is None or classes is None:
                continue
            num_classes = cfg.peek(cls.num_classes_key)
            if len(classes) != num_classes:
                raise ConfigError(f"{name} has {len(classes)} classes, {cls.num_classes_key} is {num_classes}")

    def build_step_trainer(self, model: nn.Module, data_loader: TrainLoader, optimizer: Any) -> StepTrainer:
        return StepTrainer(model, data_loader, optimizer, **self.step_arguments())

    def step_arguments(self) -> dict[str, Any]:
        """Return the arguments of every step trainer, from the config."""
        return {
            "accumulation_steps": self.cfg.SOLVER.ACCUMULATION_STEPS,
            "seed": self.cfg.SEED,
            "amp": self.cfg.SOLVER.AMP.ENABLED,
            "dump_dir": self.cfg.OUTPUT_DIR,
        }

    # What is the same for all tasks.

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        millions = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
        logger.info(f"{cfg.MODEL.META_ARCHITECTURE} with {millions:.2f} M trainable parameters")
        logger.debug(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainLoader:
        return build_train_loader(cfg, mapper=cls.build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> EvaluationLoader:
        records = load_test_set(cfg, dataset_name)
        return build_test_loader(cfg, records, mapper=cls.build_mapper(cfg, is_train=False))

    @classmethod
    def build_evaluations(cls, cfg: CfgNode) -> dict[str, Evaluation]:
        """Return the loader and the evaluator of each of DATASETS.TEST; they can be used again and again."""
        names = cfg.DATASETS.TEST
        return {name: (cls.build_test_loader(cfg, name), cls.build_evaluator(cfg, name)) for name in names}

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluations: dict[str, Evaluation] | None = None) -> dict:
        """Evaluate a model that has its weights, as detectron2's `DefaultTrainer.test` does.

        Args:
            evaluations: see `build_evaluations`, which makes them where they are not given.
        Returns:
            nested dict of metrics, on the main process; that of the data set where there is one, else by data set.
        """
        evaluations = cls.build_evaluations(cfg) if evaluations is None else evaluations
        results = {name: inference_on_dataset(model, *evaluation) for name, evaluation in evaluations.items()}
        results = next(iter(results.values())) if len(results) == 1 else results
        if comm.is_main_process():
            logger.info("Evaluation: " + ", ".join(f"{k} {v:.4g}" for k, v in _headline(results).items()))
        return results

    def build_hooks(self) -> list[Any]:
        cfg = self.cfg
        schedule = LRSchedule(self.step.optimizer, cfg.SOLVER.BASE_LR, build_lr_multiplier(cfg))
        checkpointer = PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD)
        ret: list[Any] = [hooks.IterationTimer(), schedule]
        if self.evaluations:
            evaluation = EvalHook(cfg.OUTPUT_DIR, cfg.TEST.EVAL_PERIOD, self.evaluate)
            ret += [DueEvaluation(cfg.OUTPUT_DIR, cfg.TEST.EVAL_PERIOD), checkpointer, evaluation]
            written = evaluation.forget_due
        else:
            ret.append(checkpointer)
            written = _nothing
        if comm.is_main_process():
            ret.append(PeriodicWriter(self.build_writers, f"{cfg.OUTPUT_DIR}/metrics.json", 20, written))
        return ret

    def build_writers(self) -> list[EventWriter]:
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def evaluate(self) -> dict:
        self.last_results = self.test(self.cfg, self.model, self.evaluations)
        return self.last_results

    def resume_or_load(self, resume: bool = True) -> None:
        """Load MODEL.WEIGHTS; or, to resume, the last checkpoint in OUTPUT_DIR, and go on where its run was.

        Raises:
            CheckpointError: it does not fit.
        """
        path = self.checkpointer.get_checkpoint_file() if resume and comm.is_main_process() else ""
        path = comm.all_gather(path)[0]
        if not path:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
            return
        self.checkpointer.resume(path)
        self.start_iter = self.iter + 1
        if self.start_iter > self.max_iter:
            raise CheckpointError(
                f"{path} has {self.start_iter} iterations, SOLVER.MAX_ITER is {self.max_iter}: resume with at least as "
                "many, or train in another OUTPUT_DIR"
            )
        if self.loader_states is None or len(self.loader_states) != comm.get_world_size():
            raise CheckpointError(
                f"The checkpoint was written by {len(self.loader_states or [])} processes and cannot be resumed with "
                f"{comm.get_world_size()}; start from its weights instead (MODEL.WEIGHTS, without --resume)"
            )
        self.data_loader.load_state_dict(self.loader_states[comm.get_rank()])

    def train(self) -> dict:
        """Train from `start_iter` to the end; return the last evaluation's results (main process)."""
        if self.start_iter == self.max_iter and due_evaluation(self.cfg.OUTPUT_DIR) != self.max_iter:
            logger.info(f"{self.cfg.OUTPUT_DIR} is finished: all {self.max_iter} iterations are done")
            return {}
        if comm.is_main_process():
            if self.start_iter == 0:
                clear(self.cfg.OUTPUT_DIR)
            save_config(self.cfg)
        logger.info(f"Starting training from iteration {self.start_iter}")
        start = time.monotonic()
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                for iteration in range(self.start_iter, self.max_iter):
                    self.iter = iteration
                    self.before_step()
                    self.run_step()
                    self.after_step()
                self.iter = self.max_iter  # tells hooks that training came to its end
            except BaseException as error:
                if isinstance(error, Exception) and not is_users_error(error):  # of those the tool prints one line
                    logger.exception("Exception during training:")
                with contextlib.suppress(OSError):  # the disk is full, perhaps, which was the first error
                    self.after_train()
                raise
            self.after_train()
        if comm.is_main_process():
            self._log_summary(time.monotonic() - start)
        return self.last_results

    def _log_summary(self, seconds: float) -> None:
        """Log the table that ends a training."""
        loss, _ = self.storage.latest().get("total_loss", (float("nan"), 0))
        rows = {"iterations": self.max_iter, "time": str(datetime.timedelta(seconds=round(seconds))), "loss": loss}
        checkpoint = {"checkpoint": f"{self.cfg.OUTPUT_DIR}/model_final.pth"}
        logger.info(f"Finished:\n{_table({**rows, **_headline(self.last_results), **checkpoint})}")

    def run_step(self) -> None:
        self.step.iter = self.iter
        self.step.run_step()

    def gather_loader_states(self) -> None:
        self.loader_states = comm.all_gather(self.data_loader.state_dict())

    def state_dict(self) -> dict[str, Any]:
        own = {"_trainer": self.step.state_dict(), "loader_states": self.loader_states}
        return {**super().state_dict(), **own, "kept": {name: self.cfg.peek(name) for name in _KEPT}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.get("kept", {}).items():
            if self.cfg.peek(name) != value:
                raise CheckpointError(
                    f"The training in {self.cfg.OUTPUT_DIR} began with {name} {value}, and cannot be resumed with "
                    f"{self.cfg.peek(name)}: take {value}, or start from its weights (MODEL.WEIGHTS) in another OUTPUT_DIR"
                )
        super().load_state_dict(state_dict)
        self.step.load_state_dict(state_dict["_trainer"])
        self.loader_states = state_dict["loader_states"]


def _nothing() -> None:
    """Do nothing."""


def trainer_class(cfg: CfgNode) -> type[VideoTrainer]:
    """Return the task of MODEL.META_ARCHITECTURE: the most derived subclass of `VideoTrainer` that trains it.

    Raises:
        ConfigError: no task trains it, or several do of which none is derived from the others.
    """
    architecture = architecture_class(cfg)
    tasks = [task for task in _subclasses(VideoTrainer) if issubclass(architecture, task.architectures)]
    derived = [task for task in tasks if not any(t is not task and issubclass(t, task) for t in tasks)]
    if len(derived) == 1:
        return derived[0]
    names = ", ".join(sorted(f"{task.__module__}.{task.__qualname__}" for task in derived or _subclasses(VideoTrainer)))
    what = f"is trained by {names}: import one of them only" if derived else f"is trained by none of {names}"
    raise ConfigError(f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE!r} {what} (IMPORTS)")


def architecture_class(cfg: CfgNode) -> type:
    """Return the class that MODEL.META_ARCHITECTURE names; ConfigError if there is none."""
    return find_registered(cfg, "MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY)


def _subclasses(cls: type[VideoTrainer]) -> list[type[VideoTrainer]]:
    return [below for child in cls.__subclasses__() for below in (child, *_subclasses(child))]


def _headline(results: dict) -> dict[str, float]:
    """Flatten nested results; figures of single classes are left out."""
    return {name: value for name, value in flatten_results_dict(results).items() if "/AP/" not in f"/{name}"}


def _table(rows: dict[str, Any]) -> str:
    texts = [(name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in rows.items()]
    return tabulate(texts, tablefmt="pipe", headers=["", "result"], disable_numparse=True)
