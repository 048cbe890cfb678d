"""Optimizers and learning rates from a config."""

import logging

import torch
from detectron2.solver.lr_scheduler import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler
from torch.nn.modules.batchnorm import _NormBase

from vdet_ssl.solver.lars import LARS


def build_optimizer(cfg, model):
    """Return SGD or LARS (SOLVER.OPTIMIZER) over the model's trainable parameters.

    LARS neither adapts nor decays the parameters of norms and biases (B.1); SGD follows SOLVER.WEIGHT_DECAY_NORM and
    WEIGHT_DECAY_BIAS.
    """
    solver = cfg.SOLVER
    weights, biases, norms = _sort_parameters(model)
    if solver.OPTIMIZER == "LARS":
        groups = [{"params": weights}, {"params": biases + norms, "weight_decay": 0.0, "adapt": False}]
        return LARS(
            [g for g in groups if g["params"]],
            solver.BASE_LR,
            momentum=solver.MOMENTUM,
            weight_decay=solver.WEIGHT_DECAY,
            trust_coefficient=solver.LARS_TRUST_COEFFICIENT,
        )
    if solver.OPTIMIZER != "SGD":
        raise ValueError(f'SOLVER.OPTIMIZER is "SGD" or "LARS", not {solver.OPTIMIZER!r}')
    bias_decay = solver.WEIGHT_DECAY if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
    groups = [
        {"params": weights, "weight_decay": solver.WEIGHT_DECAY},
        {"params": biases, "weight_decay": bias_decay},
        {"params": norms, "weight_decay": solver.WEIGHT_DECAY_NORM},
    ]
    return torch.optim.SGD(
        [g for g in groups if g["params"]], solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV
    )


def build_lr_multiplier(cfg):
    """Return a function of progress in [0, 1) that SOLVER.BASE_LR is multiplied with.

    "WarmupCosineLR" is the paper's half-period cosine, 0.5 * [cos(n / n_max * pi) + 1] (B.1); "WarmupMultiStepLR"
    multiplies by SOLVER.GAMMA at each of SOLVER.STEPS.  Both may rise during SOLVER.WARMUP_ITERS first.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        multiplier = CosineParamScheduler(1.0, 0.0)
    elif solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
        multiplier = MultiStepParamScheduler(
            values=[solver.GAMMA**k for k in range(len(steps) + 1)], milestones=steps, num_updates=solver.MAX_ITER
        )
    else:
        raise ValueError(f"SOLVER.LR_SCHEDULER_NAME {solver.LR_SCHEDULER_NAME!r} is not known")
    if solver.WARMUP_ITERS == 0:
        return multiplier
    warmup = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    return WarmupParamScheduler(multiplier, solver.WARMUP_FACTOR, warmup, solver.WARMUP_METHOD)


def resolve_schedule(cfg, num_samples):
    """Turn epochs into iterations and scale the learning rate to the batch, in place; doing it again changes nothing.

    Args:
        num_samples: videos (or key frames) of one epoch.
    """
    solver, batch = cfg.SOLVER, cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATION_STEPS
    logger = logging.getLogger(__name__)
    if num_samples == 0:
        raise ValueError(f"DATASETS.TRAIN {cfg.DATASETS.TRAIN} has no samples")

    def iterations(epochs):
        return max(round(epochs * num_samples / batch), 1)

    if solver.MAX_EPOCHS > 0:
        solver.MAX_ITER = iterations(solver.MAX_EPOCHS)
    if solver.WARMUP_EPOCHS > 0:
        solver.WARMUP_ITERS = iterations(solver.WARMUP_EPOCHS)
    if solver.STEP_EPOCHS:
        solver.STEPS = tuple(iterations(epoch) for epoch in solver.STEP_EPOCHS)
    if solver.CHECKPOINT_EPOCHS > 0:
        solver.CHECKPOINT_PERIOD = iterations(solver.CHECKPOINT_EPOCHS)
    if solver.EVAL_EPOCHS > 0:
        cfg.TEST.EVAL_PERIOD = iterations(solver.EVAL_EPOCHS)
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


def _sort_parameters(model):
    weights, biases, norms = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, _NormBase):
                norms.append(parameter)
            elif name == "bias":
                biases.append(parameter)
            else:
                weights.append(parameter)
    return weights, biases, norms
