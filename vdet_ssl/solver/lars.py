"""LARS: SGD whose learning rate is scaled for each parameter by ||w|| / ||gradient|| (You et al. 2017; section B.1)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive SGD with momentum.

    For a group with `adapt=True`: g <- trust_coefficient * ||w|| / (||g + wd * w||) * (g + wd * w), taken as 1 where
    either norm is 0.  A gradient that is 0 stays 0: weight decay, which would be all of the direction, does not make a
    full step of it (so in the authors' code too).  Then, for every group, v <- momentum * v + g and w <- w - lr * v, with
    `nesterov` w <- w - lr * (g + momentum * v).

    Args:
        params: parameters or groups; a group may set `adapt`, `weight_decay` and `lr` (B.1: bias and BN neither adapt
            nor decay).
        lr: learning rate.
        momentum: of the gradient, in [0, 1).
        weight_decay: coefficient of the L2 penalty.
        trust_coefficient: 0.001 in the paper.
        nesterov: look ahead along the momentum, as torch's SGD does.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float,
        weight_decay: float,
        trust_coefficient: float,
        nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": True,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("nesterov", False)  # checkpoints from before it was there

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params, [p.grad for p in params])
        return loss

    def _step_group(self, group: dict[str, Any], params: Tensors, grads: Tensors) -> None:
        decayed = torch._foreach_add(grads, params, alpha=group["weight_decay"])
        if group["adapt"]:
            self._scale(decayed, params, grads, group["trust_coefficient"])
        buffers: Tensors = [self._momentum_buffer(p) for p in params]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, decayed)
        if group["nesterov"]:
            buffers = torch._foreach_add(decayed, buffers, alpha=group["momentum"])
        torch._foreach_add_(params, buffers, alpha=-group["lr"])

    def _momentum_buffer(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]

    @staticmethod
    def _scale(decayed: Tensors, params: Tensors, grads: Tensors, trust_coefficient: float) -> None:
        """Scale `decayed`, the gradients with their weight decay, in place."""
        weight_norms, norms = (torch.stack(torch._foreach_norm(tensors)) for tensors in (params, decayed))
        scales = trust_coefficient * weight_norms / norms
        scales = torch.where((weight_norms > 0) & (norms > 0), scales, torch.ones_like(scales))
        has_gradient = torch.stack(torch._foreach_norm(grads)) != 0  # so is NaN, which has to show
        torch._foreach_mul_(decayed, list((scales * has_gradient).unbind()))
