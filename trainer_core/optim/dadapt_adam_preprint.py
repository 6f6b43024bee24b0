"""D-Adapted Adam as first published (arXiv:2301.07733v1), on a flat buffer: kohya's DAdaptation, V1.5/V2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import setting
from .base import OPTIMIZERS, check_betas, check_growth_rate, check_positive, read_options
from .blocks import Blocks, gradient
from .flat import FlatBuffer
from .flat_optimizer import FlatOptimizer, Form, Numbers, grown, settled
from .scalars import fp32_scalars


@dataclass(frozen=True)
class DAdaptAdamPreprintOptions:
    """dadaptation.experimental's options, names and defaults."""

    betas: tuple[float, float] = setting(
        (0.9, 0.999), help="Memory of the gradient and of its square; 0.9,0.99 forgets faster."
    )
    eps: float = setting(1e-8, help="Added to the root.")
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero.", ge=0)
    decouple: bool = setting(False, help="Decay as AdamW does, instead of through the gradient.")
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")

    def __post_init__(self):
        check_betas(self.betas)
        check_positive(eps=self.eps, d0=self.d0)
        check_growth_rate(self.growth_rate)


@OPTIMIZERS.register("DAdaptAdamPreprint", "DAdaptation")
def dadapt_adam_preprint(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[DAdaptAdamPreprintOptions]:
    """dadaptation 3.2's DAdaptAdamPreprint, which 1.5 and 2.0 called DAdaptAdam; its d ends higher than V3's.

    One pass: a step uses the d that it began with. Unlike in the package, decoupled decay also applies while every
    gradient so far was zero. Raises ConfigError for an unknown or impossible option."""
    form = Form(streams=("s", "exp_avg", "exp_avg_sq"), sums=("g_sq", "sk_sq", "sk_l1"), numbers=("gsq_weighted",))
    return FlatOptimizer(buffer, read_options(DAdaptAdamPreprintOptions, options), form, _step, None, block_numel)


def _step(options: DAdaptAdamPreprintOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    dlr = numbers["d"] * lr
    _move(options, blocks, dlr)
    beta2 = options.betas[1]
    gsq_weighted = beta2 * numbers["gsq_weighted"] + (1 - beta2) * dlr.square() * blocks.total("g_sq")
    sk_l1 = blocks.total("sk_l1")
    d_hat = (blocks.total("sk_sq") / (1 - beta2) - gsq_weighted) / sk_l1
    d = grown(numbers["d"], d_hat, options.growth_rate)
    return settled(numbers, sk_l1 > 0, d=d, gsq_weighted=gsq_weighted)


def _move(options: DAdaptAdamPreprintOptions, blocks: Blocks, dlr: Tensor) -> None:
    """The pass: the moments, s, each block's share of the estimate of d, and the step itself."""
    beta1, beta2 = options.betas
    decays = options.weight_decay > 0
    stride, decay = fp32_scalars(dlr, -options.weight_decay * dlr)
    scratch, roots = blocks.scratch(), blocks.scratch()
    decayed = blocks.scratch() if decays and not options.decouple else None
    for block in blocks:
        t, root = scratch[: block.param.numel()], roots[: block.param.numel()]
        grad = gradient(block, options.weight_decay, decayed)
        torch.mul(grad, stride, out=t)
        block.exp_avg.mul_(beta1).add_(t, alpha=block.rate * (1 - beta1))
        block.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        block.s.mul_(beta2).add_(t, alpha=1 - beta2)
        torch.sqrt(block.exp_avg_sq, out=root).add_(options.eps)
        block.g_sq.copy_(torch.dot(grad, torch.div(grad, root, out=t)))
        block.sk_sq.copy_(torch.dot(block.s, torch.div(block.s, root, out=t)))
        torch.sum(torch.abs(block.s, out=t), dim=0, out=block.sk_l1)
        if decays and options.decouple:
            block.param.addcmul_(block.param, decay)
        block.param.addcdiv_(block.exp_avg, root, value=-1)
