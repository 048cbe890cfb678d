"""The trainers: subclasses of detectron2's DefaultTrainer for video tasks and for self-supervised pre-training."""

import functools
import logging
import weakref

import torch
from detectron2.engine import DefaultTrainer, create_ddp_model, hooks
from detectron2.modeling import build_model
from detectron2.utils import comm

from vdet_ssl.checkpoint import VideoCheckpointer
from vdet_ssl.data.build import build_test_loader, build_train_loader
from vdet_ssl.data.transforms import augment_batch
from vdet_ssl.engine.hooks import InitialEval, LRSchedule, PeriodicCheckpointer
from vdet_ssl.engine.train_loop import SSLStepTrainer, StepTrainer
from vdet_ssl.evaluation import build_evaluator
from vdet_ssl.solver import build_lr_multiplier, build_optimizer


class VideoTrainer(DefaultTrainer):
    """detectron2's DefaultTrainer for a downstream task on video, from a config.

    A resumed run is the run that never stopped, to the bit on a CPU: the step's random numbers follow from
    (seed, iteration, rank), the loader continues at the position where it was, and the learning rate is a function of
    progress.

    Args:
        cfg: a config whose schedule is resolved (`vdet_ssl.engine.setup`).
    """

    def __init__(self, cfg):
        super(DefaultTrainer, self).__init__()  # DefaultTrainer's own constructor builds detectron2's loader and step
        self.cfg = cfg
        self.loader_states = None
        data_loader = self.build_train_loader(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        ddp_arguments = {} if torch.cuda.is_available() else {"device_ids": None}
        model = create_ddp_model(model, broadcast_buffers=False, **ddp_arguments)
        self._trainer = self.build_step_trainer(model, data_loader, optimizer)
        self.checkpointer = VideoCheckpointer(
            model, cfg.OUTPUT_DIR, min_coverage=cfg.MODEL.WEIGHTS_MIN_COVERAGE, trainer=weakref.proxy(self)
        )
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def build_step_trainer(self, model, data_loader, optimizer):
        return StepTrainer(model, data_loader, optimizer, **self._step_arguments())

    def _step_arguments(self):
        cfg = self.cfg
        return {
            "accumulation_steps": cfg.SOLVER.ACCUMULATION_STEPS,
            "seed": cfg.SEED,
            "amp": cfg.SOLVER.AMP.ENABLED,
            "dump_dir": cfg.OUTPUT_DIR,
        }

    def build_hooks(self):
        cfg = self.cfg
        ret = [
            hooks.IterationTimer(),
            LRSchedule(self._trainer.optimizer, cfg.SOLVER.BASE_LR, build_lr_multiplier(cfg)),
            PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate),
        ]
        if comm.is_main_process():
            ret.append(hooks.PeriodicWriter(self.build_writers(), period=min(20, cfg.SOLVER.MAX_ITER)))
        return ret

    def _evaluate(self):
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def resume_or_load(self, resume=True):
        """As detectron2's; the loader continues where the checkpoint's run was."""
        super().resume_or_load(resume)
        if self.start_iter == 0:
            return
        if self.loader_states is not None and len(self.loader_states) == comm.get_world_size():
            self.data_loader.load_state_dict(self.loader_states[comm.get_rank()])
        else:
            raise ValueError(
                f"The checkpoint was written by {len(self.loader_states or [])} processes and cannot be resumed with "
                f"{comm.get_world_size()}; start from its weights instead (MODEL.WEIGHTS, without --resume)"
            )

    def gather_loader_states(self):
        self.loader_states = comm.all_gather(self.data_loader.state_dict())

    # DefaultTrainer saves the step's state (optimizer, gradient scaler) in detectron2's main, but not in 0.6.
    def state_dict(self):
        own = {"_trainer": self._trainer.state_dict(), "loader_states": self.loader_states}
        return {**super(DefaultTrainer, self).state_dict(), **own}

    def load_state_dict(self, state_dict):
        super(DefaultTrainer, self).load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
        self.loader_states = state_dict["loader_states"]

    @classmethod
    def build_model(cls, cfg):
        model = build_model(cfg)
        millions = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
        logger = logging.getLogger(__name__)
        logger.info(f"Model with {millions:.2f} M trainable parameters:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg):
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return build_evaluator(cfg, dataset_name)


class SSLTrainer(VideoTrainer):
    """Pre-training with any method of `vdet_ssl.modeling.ssl` (section 3.2): the same trainer for all of them."""

    def build_step_trainer(self, model, data_loader, optimizer):
        on_model = self.cfg.INPUT.AUGMENTATION_DEVICE == "model"
        augment = functools.partial(augment_batch, device=self.cfg.MODEL.DEVICE) if on_model else None
        return SSLStepTrainer(
            model,
            data_loader,
            optimizer,
            max_iter=self.cfg.SOLVER.MAX_ITER,
            augment=augment,
            **self._step_arguments(),
        )

    def build_hooks(self):
        """As for other tasks; where TEST.KNN.ENABLED, what training starts from is evaluated too."""
        ret = super().build_hooks()
        if self.cfg.TEST.KNN.ENABLED:
            ret.insert(0, InitialEval(self._evaluate))
        return ret

    def _evaluate(self):
        return super()._evaluate() if self.cfg.TEST.KNN.ENABLED else {}

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """kNN accuracy on DATASETS.TEST, as detectron2's `test`; the evaluators' banks are filled first."""
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
            for evaluator in evaluators:
                evaluator.fill_bank(model)
        return super().test(cfg, model, evaluators)
