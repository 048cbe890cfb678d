"""One training step: batches fall into parts, each part is back-propagated as it comes, then the optimizer steps."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vdet_ssl.errors import NotFiniteError

Batch = list[dict[str, Any]]


class StepTrainer(TrainerBase):
    """detectron2's trainer of single steps with gradient accumulation, mixed precision, and a stop at NaN or Inf.

    Everything random in iteration k follows from (seed, k, rank) alone, so a resumed run repeats an unbroken one.

    Args:
        model, data_loader, optimizer: as for detectron2's SimpleTrainer; the loader yields list[dict].
        accumulation_steps: batches whose mean gradient makes one step.
        seed: of what the model draws (dropout, shuffled BN).
        amp: whether to run in mixed precision on a GPU (float16 with a gradient scaler).
        dump_dir: folder of the file that is written when a loss or a gradient is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Batch],
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int,
        seed: int,
        amp: bool,
        dump_dir: str | Path,
    ) -> None:
        super().__init__()
        model.train()
        self.model: Any = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.accumulation_steps = accumulation_steps
        self.seed = seed
        self.dump_dir = Path(dump_dir)
        self.device = next(model.parameters()).device
        self.amp = amp and self.device.type == "cuda"
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        self._iterator: Iterator[Batch] | None = None

    @property
    def module(self) -> Any:
        """The model itself, without DistributedDataParallel around it."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    def run_step(self) -> None:
        self._seed_iteration()
        self.optimizer.zero_grad(set_to_none=True)
        data_s = 0.0
        losses: dict[str, Any] = {}
        batches: list[Batch] = []
        for k in range(self.accumulation_steps):
            start = time.perf_counter()
            batches.append(self._next_batch())
            data_s += time.perf_counter() - start
            is_last_batch = k == self.accumulation_steps - 1
            for name, loss in self._backward(batches[-1], is_last_batch).items():
                losses[name] = losses.get(name, 0.0) + loss / self.accumulation_steps
        self.grad_scaler.unscale_(self.optimizer)
        self.before_update()
        grad_norm = self._grad_norm()
        self._check_finite({**losses, "grad_norm": grad_norm}, batches)
        self._store(losses, grad_norm, data_s)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.after_update()

    def split(self, batch: Batch) -> Sequence[Any]:
        """Return the parts of a batch's loss; the model is called on each in turn.  Here: the batch is one part."""
        return [batch]

    def before_update(self) -> None:
        """Called when all gradients are there, before the optimizer steps."""

    def after_update(self) -> None:
        """Called when the optimizer has stepped."""

    def _seed_iteration(self) -> None:
        torch.manual_seed(((self.seed * 1_000_003 + self.iter) * 65_537 + comm.get_rank()) % 2**63)

    def _next_batch(self) -> Batch:
        if self._iterator is None:
            self._iterator = iter(self.data_loader)
        return next(self._iterator)

    def _backward(self, batch: Batch, is_last_batch: bool) -> dict[str, torch.Tensor]:
        """Back-propagate the parts of one batch one after another; gradients are averaged over processes with the last."""
        total: dict[str, Any] = {}
        with torch.autocast(self.device.type, enabled=self.amp):
            parts = self.split(batch)
        for i, part in enumerate(parts):
            sync = is_last_batch and i == len(parts) - 1
            with contextlib.nullcontext() if sync or self.module is self.model else self.model.no_sync():
                with torch.autocast(self.device.type, enabled=self.amp):
                    losses = self.model(part)
                loss = sum(losses.values()) / self.accumulation_steps
                self.grad_scaler.scale(loss).backward()
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + value.detach()
        return total

    def _grad_norm(self) -> torch.Tensor:
        grads = [p.grad for p in self.module.parameters() if p.grad is not None]
        return torch.stack(torch._foreach_norm(grads)).norm()

    def _store(self, losses: dict[str, torch.Tensor], grad_norm: torch.Tensor, data_s: float) -> None:
        """Put the losses (means over processes), the gradient norm and the slowest process' wait for data in storage."""
        gathered = comm.gather({**{n: v.item() for n, v in losses.items()}, "data_time": data_s})
        if comm.is_main_process():
            storage = get_event_storage()
            storage.put_scalar("data_time", max(x.pop("data_time") for x in gathered))
            means = {name: sum(x[name] for x in gathered) / len(gathered) for name in losses}
            storage.put_scalars(total_loss=sum(means.values()), grad_norm=grad_norm.item())
            if len(means) > 1:
                storage.put_scalars(**means)

    def _check_finite(self, values: dict[str, torch.Tensor], batches: list[Batch]) -> None:
        """Stop at NaN or Inf; in mixed precision an infinite gradient is the scaler's business."""
        wrong = [n for n, v in values.items() if not torch.isfinite(v) and not (n == "grad_norm" and self.amp)]
        if not wrong:
            return
        rank = comm.get_rank()
        dump = self.dump_dir / f"not_finite_iter{self.iter}_rank{rank}.pth"
        state = {"iteration": self.iter, "rank": rank, "batches": batches, "model": self.module.state_dict()}
        torch.save(state, dump)
        names = [x.get("file_name", x.get("video_id")) for batch in batches for x in batch]
        raise NotFiniteError(
            f"iteration {self.iter}: {', '.join(wrong)} is NaN or infinite "
            f"({', '.join(f'{n} = {float(v):g}' for n, v in values.items())}). Inputs: {names}. "
            f"Model and inputs that reproduce it are in {dump}"
        )

    def state_dict(self) -> dict[str, Any]:
        own = {"optimizer": self.optimizer.state_dict(), "grad_scaler": self.grad_scaler.state_dict()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


class SSLStepTrainer(StepTrainer):
    """The step of a self-supervised method, whichever it is: see `vdet_ssl.modeling.ssl.base.SSLMethod`.

    Args:
        max_iter: iterations of the whole training; progress is iteration / max_iter.
        augment: batch -> batch, applied before the model sees it (augmentation on the model's device), or None.
    """

    def __init__(
        self, *args: Any, max_iter: int, augment: Callable[[Batch], Batch] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.max_iter = max_iter
        self.augment = augment

    def split(self, batch: Batch) -> Sequence[Any]:
        if self.augment is not None:
            batch = self.augment(batch)
        return self.module.split(self.module.stack_clips(batch))

    def before_update(self) -> None:
        self.module.before_step(self.iter / self.max_iter)

    def after_update(self) -> None:
        self.module.after_step(self.iter / self.max_iter)
