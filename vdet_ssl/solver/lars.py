"""LARS: SGD whose learning rate is scaled for each parameter by ||w|| / ||gradient|| (You et al. 2017; section B.1)."""

import torch


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive SGD with momentum.

    For a group with `adapt=True`: g <- trust_coefficient * ||w|| / (||g + wd * w||) * (g + wd * w), taken as 1 where
    either norm is 0.  Then, for every group, v <- momentum * v + g and w <- w - lr * v.

    Args:
        params: parameters or groups; a group may set `adapt` and `weight_decay` (both off for bias and BN, B.1).
        lr: learning rate.
        momentum: of the gradient, in [0, 1).
        weight_decay: coefficient of the L2 penalty.
        trust_coefficient: 0.001 in the paper.
    """

    def __init__(self, params, lr, *, momentum, weight_decay, trust_coefficient):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = torch._foreach_add([p.grad for p in params], params, alpha=group["weight_decay"])
            if group["adapt"]:
                self._scale(grads, params, group["trust_coefficient"])
            buffers = [self._momentum_buffer(p) for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, grads)
            torch._foreach_add_(params, buffers, alpha=-group["lr"])

    def _momentum_buffer(self, parameter):
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]

    @staticmethod
    def _scale(grads, params, trust_coefficient):
        weight_norms = torch.stack(torch._foreach_norm(params))
        grad_norms = torch.stack(torch._foreach_norm(grads))
        scales = trust_coefficient * weight_norms / grad_norms
        scales = torch.where((weight_norms > 0) & (grad_norms > 0), scales, torch.ones_like(scales))
        torch._foreach_mul_(grads, list(scales.unbind()))
