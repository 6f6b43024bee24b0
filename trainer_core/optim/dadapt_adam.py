"""D-Adapted Adam (Defazio & Mishchenko 2023, arXiv:2301.07733) over a flat buffer, as dadaptation 3.2 computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..settings import setting
from .base import OPTIMIZERS, check_betas, check_growth_rate, check_positive, read_options
from .blocks import Blocks, gradient
from .flat import FlatBuffer, Group
from .flat_optimizer import FlatOptimizer, Form, Numbers, PackageForm, grown, settled
from .scalars import bias_correction, fp32_scalars


@dataclass(frozen=True)
class DAdaptAdamOptions:
    """dadaptation's options, names and defaults."""

    betas: tuple[float, float] = setting(
        (0.9, 0.999), help="Memory of the gradient and of its square; 0.9,0.99 forgets faster."
    )
    eps: float = setting(1e-8, help="Added to the root.")
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero.", ge=0)
    decouple: bool = setting(False, help="Decay as AdamW does, instead of through the gradient.")
    use_bias_correction: bool = setting(False, help="Adam's bias correction, which makes the first steps smaller.")
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")

    def __post_init__(self):
        check_betas(self.betas)
        check_positive(eps=self.eps, d0=self.d0)
        check_growth_rate(self.growth_rate)


@OPTIMIZERS.register("DAdaptAdam")
def dadapt_adam(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[DAdaptAdamOptions]:
    """Adam that learns its step size d from the gradients' agreement with their running sum: the "V3" of the guides.

    One pass: a step uses the d that it began with. Unlike in the package, decoupled decay also applies while every
    gradient so far was zero. Raises ConfigError for an unknown or impossible option."""
    form = Form(streams=("s", "exp_avg", "exp_avg_sq"), sums=("numerator", "sk_l1"), numbers=("numerator_weighted",))
    package = PackageForm(group=_layer_scale)
    return FlatOptimizer(buffer, read_options(DAdaptAdamOptions, options), form, _step, package, block_numel)


def _step(options: DAdaptAdamOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    dlr = numbers["d"] * lr
    if options.use_bias_correction:
        dlr = dlr * bias_correction(options.betas, numbers["k"])
    _move(options, blocks, dlr)
    root = math.sqrt(options.betas[1])
    numerator = root * numbers["numerator_weighted"] + (1 - root) * dlr * blocks.total("numerator")
    sk_l1 = blocks.total("sk_l1")
    d = grown(numbers["d"], numerator / ((1 - root) * sk_l1), options.growth_rate)
    return settled(numbers, sk_l1 > 0, d=d, numerator_weighted=numerator)


def _move(options: DAdaptAdamOptions, blocks: Blocks, dlr: Tensor) -> None:
    """The pass: each block's share of the estimate of d, s, the moments, and the step itself."""
    beta1, beta2 = options.betas
    decays = options.weight_decay > 0
    stride, decay = fp32_scalars(dlr, -options.weight_decay * dlr)
    scratch = blocks.scratch()
    decayed = blocks.scratch() if decays and not options.decouple else None
    for block in blocks:
        t = scratch[: block.param.numel()]
        grad = gradient(block, options.weight_decay, decayed)
        torch.sqrt(block.exp_avg_sq, out=t).add_(options.eps)
        block.numerator.copy_(torch.dot(grad, torch.div(block.s, t, out=t)))
        torch.mul(grad, stride, out=t)
        block.s.lerp_(t, 1 - math.sqrt(beta2))
        block.exp_avg.mul_(beta1).add_(t, alpha=block.rate * (1 - beta1))
        torch.sum(torch.abs(block.s, out=t), dim=0, out=block.sk_l1)
        block.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if decays and options.decouple:
            block.param.addcmul_(block.param, decay)
        torch.sqrt(block.exp_avg_sq, out=t).add_(options.eps)
        block.param.addcdiv_(block.exp_avg, t, value=-1)


def _layer_scale(group: Group, largest_lr: float) -> dict[str, Any]:
    # The package wants one rate; 0 stays 0, which it takes for frozen.
    if group.lr == 0:
        return {"lr": 0.0, "layer_scale": 1.0}
    return {"lr": largest_lr, "layer_scale": group.lr / largest_lr}
