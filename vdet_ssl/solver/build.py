"""Optimizers and learning rates from a config."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from detectron2.solver.build import _generate_optimizer_class_with_gradient_clipping, get_default_optimizer_params
from detectron2.solver.lr_scheduler import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler, ParamScheduler
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from vdet_ssl.config import EPOCHS, CfgNode
from vdet_ssl.errors import ConfigError, DataError
from vdet_ssl.solver.lars import LARS

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
_KINDS = ("weight", "bias", "norm")  # in the order of the groups, which checkpoints depend on

logger = logging.getLogger(__name__)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Return SGD or LARS (SOLVER.OPTIMIZER) over the model's trainable parameters.

    Rates and decays of norms and biases are as in detectron2 (WEIGHT_DECAY_NORM, WEIGHT_DECAY_BIAS, BIAS_LR_FACTOR);
    but LARS adapts neither, and decays no biases where WEIGHT_DECAY_BIAS is None (B.1).

    Raises:
        ConfigError: SOLVER.OPTIMIZER is another one, or NESTEROV has no momentum.
    """
    solver = cfg.SOLVER
    if solver.NESTEROV and solver.MOMENTUM == 0:
        raise ConfigError("SOLVER.NESTEROV needs a SOLVER.MOMENTUM of more than 0")
    arguments = {"lr": solver.BASE_LR, "momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    groups = parameter_groups(cfg, model)
    if solver.OPTIMIZER == "SGD":
        return with_clipping(cfg, torch.optim.SGD)(groups, **arguments)
    if solver.OPTIMIZER == "LARS":
        arguments |= {"weight_decay": solver.WEIGHT_DECAY, "trust_coefficient": solver.LARS_TRUST_COEFFICIENT}
        return with_clipping(cfg, LARS)(groups, **arguments)
    raise ConfigError(f'SOLVER.OPTIMIZER is "SGD" or "LARS", not {solver.OPTIMIZER!r}')


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: weights, biases, norms; further ones where these differ among themselves.

    With LARS, biases and norms are in one group where they have the same rate and decay.
    """
    solver, is_lars = cfg.SOLVER, cfg.SOLVER.OPTIMIZER == "LARS"
    settings = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    settings_of = {p: {k: v for k, v in group.items() if k != "params"} for group in settings for p in group["params"]}
    groups = defaultdict(list)
    for kind, parameter in sorted(_parameters_by_kind(model), key=lambda x: _KINDS.index(x[0])):
        own = settings_of[parameter]
        if is_lars:
            own["adapt"] = kind == "weight"
            if kind == "bias" and solver.WEIGHT_DECAY_BIAS is None:
                own["weight_decay"] = 0.0
        groups["" if is_lars else kind, tuple(own.items())].append(parameter)
    return [{"params": parameters, **dict(own)} for (_, own), parameters in groups.items()]


def _parameters_by_kind(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield each trainable parameter once, in the order of the model's modules."""
    seen = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield "norm" if isinstance(module, _NORMS) else "bias" if name == "bias" else "weight", parameter


def with_clipping(cfg: CfgNode, optimizer: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Return the class of an optimizer that clips gradients before each step, if SOLVER.CLIP_GRADIENTS.ENABLED.

    It is what detectron2's `maybe_add_gradient_clipping` returns, and "full_model" too: by the norm of all gradients.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return optimizer
    clipper: dict[str, Callable]
    if clip.CLIP_TYPE == "value":
        clipper = {"per_param_clipper": partial(clip_grad_value_, clip_value=clip.CLIP_VALUE)}
    else:
        which = "global_clipper" if clip.CLIP_TYPE == "full_model" else "per_param_clipper"
        clipper = {which: partial(clip_grad_norm_, max_norm=clip.CLIP_VALUE, norm_type=clip.NORM_TYPE)}
    return _generate_optimizer_class_with_gradient_clipping(optimizer, **clipper)


def build_lr_multiplier(cfg: CfgNode) -> ParamScheduler:
    """Return a function of progress in [0, 1) that SOLVER.BASE_LR is multiplied with.

    "WarmupCosineLR" is the paper's half-period cosine, 0.5 * [cos(n / n_max * pi) + 1] (B.1); "WarmupMultiStepLR"
    multiplies by SOLVER.GAMMA at each of SOLVER.STEPS.  Both may rise during SOLVER.WARMUP_ITERS first.

    Raises:
        ConfigError: SOLVER.LR_SCHEDULER_NAME is another one, or the schedule is not one that can be meant: warm-up that
            takes all of training, steps that do not rise or are beyond its end.
    """
    solver = cfg.SOLVER
    if solver.WARMUP_ITERS > 0:
        _check_warmup(cfg)
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        multiplier = CosineParamScheduler(1.0, 0.0)
    elif solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        _check_steps(cfg)
        steps = list(solver.STEPS)
        multiplier = MultiStepParamScheduler(
            values=[solver.GAMMA**k for k in range(len(steps) + 1)], milestones=steps, num_updates=solver.MAX_ITER
        )
    else:
        raise ConfigError(f"SOLVER.LR_SCHEDULER_NAME {solver.LR_SCHEDULER_NAME!r} is not known")
    if solver.WARMUP_ITERS == 0:
        return multiplier
    warmup = solver.WARMUP_ITERS / solver.MAX_ITER
    return WarmupParamScheduler(multiplier, solver.WARMUP_FACTOR, warmup, solver.WARMUP_METHOD)


def _check_warmup(cfg: CfgNode) -> None:
    """Refuse warm-up that takes all of training, where the rate would never be what it warms up for; warn of a half."""
    fraction = cfg.SOLVER.WARMUP_ITERS / cfg.SOLVER.MAX_ITER
    what = (
        f"warm-up, {_in_iterations(cfg, 'SOLVER.WARMUP_ITERS')}, takes {fraction:.0%} of the training, "
        f"{_in_iterations(cfg, 'SOLVER.MAX_ITER')}"
    )
    if fraction >= 1:
        raise ConfigError(f"{what}: shorten it (0: none), or train for longer")
    if fraction > 0.5:
        logger.warning(f"{what[0].upper()}{what[1:]}")


def _check_steps(cfg: CfgNode) -> None:
    """Refuse steps out of order, at the start, or at or after the end of training, which would not be taken as they stand."""
    steps, end = cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER
    if not all(earlier < later for earlier, later in pairwise((0, *steps, end))):
        raise ConfigError(
            f"{_in_iterations(cfg, 'SOLVER.STEPS')} has to rise from one to the next, above 0 and below the end of training, "
            f"{_in_iterations(cfg, 'SOLVER.MAX_ITER')}"
        )


def _in_iterations(cfg: CfgNode, key: str) -> str:
    """Return a key of `EPOCHS` and its value as text, with the epochs where it was given in these."""
    epochs = cfg.peek(EPOCHS[key])
    return f"{key} {cfg.peek(key)}" + (f" ({EPOCHS[key]} {epochs})" if epochs else "")


def resolve_schedule(cfg: CfgNode, num_samples: int) -> None:
    """Turn epochs into iterations and scale the learning rate to the batch, in place; doing it again changes nothing.

    Args:
        num_samples: videos (or key frames) of one epoch.
    Raises:
        DataError: there are none.
    """
    solver, batch = cfg.SOLVER, cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATION_STEPS
    if num_samples == 0:
        raise DataError(f"DATASETS.TRAIN {cfg.DATASETS.TRAIN} has no samples")
    _resolve_epochs(cfg, lambda epochs: max(round(epochs * num_samples / batch), 1))
    if solver.REFERENCE_BATCH_SIZE not in (0, batch):
        scaled = solver.BASE_LR * batch / solver.REFERENCE_BATCH_SIZE
        logger.info(
            f"Learning rate {solver.BASE_LR:g} at batch {solver.REFERENCE_BATCH_SIZE} -> {scaled:g} at batch {batch}"
        )
        solver.BASE_LR, solver.REFERENCE_BATCH_SIZE = scaled, batch
    logger.info(
        f"{num_samples} samples in batches of {batch}: {num_samples / batch:.1f} iterations an epoch, "
        f"{solver.MAX_ITER} iterations = {solver.MAX_ITER * batch / num_samples:.1f} epochs in all"
    )


def _resolve_epochs(cfg: CfgNode, to_iterations: Callable[[float], int]) -> None:
    """Set what is given in epochs in iterations; that alone does not count as reading a key."""
    for iterations, epochs_key in EPOCHS.items():
        epochs = cfg.peek(epochs_key)
        if isinstance(epochs, tuple) and epochs:
            cfg.put(iterations, tuple(map(to_iterations, epochs)))
        elif not isinstance(epochs, tuple) and epochs > 0:
            cfg.put(iterations, to_iterations(epochs))
