"""Hooks that differ from detectron2's."""

from collections.abc import Callable

import torch
from detectron2.engine import HookBase, hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from vdet_ssl.engine.output_dir import due_evaluation, forget_due_evaluation, note_due_evaluation
from vdet_ssl.files import naming


class LRSchedule(HookBase):
    """Set the learning rates before each step: those at the start * multiplier(progress), progress = iteration / max_iter.

    It has no state of its own, so there is nothing to restore on resume (detectron2 0.6 loses its scheduler's).

    Args:
        optimizer: as it was built, before a checkpoint sets its rates; a group may have one of its own (biases).
        base_lr: the rate of most groups, of which the metrics tell.
        multiplier: function of progress in [0, 1), as in fvcore's param_scheduler.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, base_lr: float, multiplier: Callable[[float], float]) -> None:
        self.optimizer = optimizer
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.base_lr = base_lr
        self.multiplier = multiplier

    def before_step(self) -> None:
        multiplier = self.multiplier(self.trainer.iter / self.trainer.max_iter)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * multiplier
        self.trainer.storage.put_scalar("lr", self.base_lr * multiplier, smoothing_hint=False)


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """detectron2's, with the positions of all processes in their data; so it runs on every process (one writes)."""

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done >= self.max_iter:
            self.trainer.gather_loader_states()
        super().after_step()


class DueEvaluation(HookBase):
    """Notes in OUTPUT_DIR that an evaluation is due, before the checkpoint of its iteration is saved.

    So a run that is killed in an evaluation makes up for it when it is resumed.

    Args:
        output_dir: the folder.
        period: iterations between two evaluations; 0: only the last one evaluates.
    """

    def __init__(self, output_dir: str, period: int) -> None:
        self.output_dir, self.period = output_dir, period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        is_due = done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0)
        if is_due and comm.is_main_process():
            note_due_evaluation(self.output_dir, done)


class EvalHook(hooks.EvalHook):
    """detectron2's, which evaluates after a resume what was due before it, and nothing after a failure.

    Args:
        output_dir: where `DueEvaluation` notes what is due.
        period: iterations between two evaluations; 0: only the last one evaluates.
        eval_function: () -> nested dict of metrics.
    """

    def __init__(self, output_dir: str, period: int, eval_function: Callable[[], dict]) -> None:
        super().__init__(period, eval_function)
        self.output_dir = output_dir
        self.is_evaluated = False

    def before_train(self) -> None:
        start = self.trainer.start_iter
        due = comm.all_gather(due_evaluation(self.output_dir))[0]
        if due == start < self.trainer.max_iter:
            self.trainer.storage.iter = start - 1  # its figures are those of the iteration before
            self._do_eval()
            self.trainer.storage.iter = start

    def _do_eval(self) -> None:
        super()._do_eval()
        self.is_evaluated = True

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            super().after_train()

    def forget_due(self) -> None:
        """To be called when figures have been written: what was evaluated is not due any more."""
        if self.is_evaluated:
            forget_due_evaluation(self.output_dir)
            self.is_evaluated = False


class PeriodicWriter(hooks.PeriodicWriter):
    """detectron2's, which writes after the first iteration too: people see early whether all is well.

    Args:
        build_writers: () -> writers of metrics; called when training starts, as they open their files.
        path: of their file.
        period: iterations between two times that they write.
        written: called after they have written.
    """

    def __init__(
        self, build_writers: Callable[[], list[EventWriter]], path: str, period: int, written: Callable[[], None]
    ) -> None:
        super().__init__([], period)
        self.build_writers = build_writers
        self.path = path
        self.written = written

    def before_train(self) -> None:
        with naming(self.path):
            self._writers = self.build_writers()

    def after_step(self) -> None:
        is_first = self.trainer.iter == self.trainer.start_iter and self.trainer.iter + 1 < self.trainer.max_iter
        with naming(self.path):
            if is_first:
                for writer in self._writers:
                    writer.write()
            super().after_step()
        if (self.trainer.iter + 1) % self._period == 0:
            self.written()

    def after_train(self) -> None:
        with naming(self.path):
            super().after_train()
        self.written()


class InitialEval(HookBase):
    """Evaluate before the first step: what training starts from, stored as `<metric>_init`; not after a resume.

    Args:
        eval_function: () -> nested dict of metrics.
    """

    def __init__(self, eval_function: Callable[[], dict]) -> None:
        self.eval_function = eval_function

    def before_train(self) -> None:
        if self.trainer.start_iter > 0:
            return
        results = flatten_results_dict(self.eval_function())
        self.trainer.storage.put_scalars(**{f"{k}_init": v for k, v in results.items()}, smoothing_hint=False)
        comm.synchronize()
