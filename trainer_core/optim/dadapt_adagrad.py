"""D-Adapted AdaGrad (Defazio & Mishchenko 2023, arXiv:2301.07733) on a flat buffer, as in dadaptation 3.2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..settings import setting
from .base import OPTIMIZERS, check_growth_rate, check_positive, read_options
from .blocks import Blocks, gradient
from .flat import FlatBuffer
from .flat_optimizer import FlatOptimizer, Form, Numbers, PackageForm, grown, settled
from .scalars import fp32_scalars


@dataclass(frozen=True)
class DAdaptAdaGradOptions:
    """dadaptation's options, names and defaults."""

    momentum: float = setting(0.0, help="How much of the last parameters an average keeps; 0.9 is usual.", ge=0)
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero, through the gradient.", ge=0)
    eps: float = setting(1e-6, help="Added to the root.")
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")

    def __post_init__(self):
        check_positive(eps=self.eps, d0=self.d0)
        check_growth_rate(self.growth_rate)
        if self.momentum >= 1:
            raise ConfigError(f'"optimizer_args.momentum" is {self.momentum}; give 0 to below 1')


@OPTIMIZERS.register("DAdaptAdaGrad")
def dadapt_adagrad(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[DAdaptAdaGradOptions]:
    """Dual averaging with a rate per element that falls with the sum of its squared gradients.

    One pass: a step uses the d that it began with. Where the package keeps running sums of s²/√α and |s| this adds
    them up anew, which loses nothing to rounding; unlike in the package, a step at rate 0 leaves α alone. Raises
    ConfigError for an unknown or impossible option."""
    form = Form(
        streams=("sk", "alphak", "x0"),
        sums=("g_sq", "sk_sq", "sk_l1"),
        numbers=("gsq_weighted", "sksq_weighted", "skl1"),
        copied=("x0",),
        filled={"alphak": 1e-6},
    )
    package = PackageForm(counts=False)
    return FlatOptimizer(buffer, read_options(DAdaptAdaGradOptions, options), form, _step, package, block_numel)


def _step(options: DAdaptAdaGradOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    dlr = numbers["d"] * lr
    _move(options, blocks, dlr)
    gsq_weighted = numbers["gsq_weighted"] + dlr.square() * blocks.total("g_sq")
    sksq_weighted, skl1 = blocks.total("sk_sq"), blocks.total("sk_l1")
    d = grown(numbers["d"], (sksq_weighted - gsq_weighted) / skl1, options.growth_rate)
    new = {"gsq_weighted": gsq_weighted, "sksq_weighted": sksq_weighted, "skl1": skl1}
    return settled(numbers, skl1 > 0, d=d, **new)


def _move(options: DAdaptAdaGradOptions, blocks: Blocks, dlr: Tensor) -> None:
    """The pass: α, s, each block's share of the estimate of d, and the step itself."""
    (stride,) = fp32_scalars(dlr)
    scratch, roots = blocks.scratch(), blocks.scratch()
    decayed = blocks.scratch() if options.weight_decay > 0 else None
    for block in blocks:
        t, root = scratch[: block.param.numel()], roots[: block.param.numel()]
        grad = gradient(block, options.weight_decay, decayed)
        block.alphak.addcmul_(grad, grad)
        block.sk.addcmul_(grad, stride)
        torch.sqrt(block.alphak, out=root).add_(options.eps)
        block.g_sq.copy_(torch.dot(grad, torch.div(grad, root, out=t)))
        torch.sum(torch.abs(block.sk, out=t), dim=0, out=block.sk_l1)
        block.sk_sq.copy_(torch.dot(block.sk, torch.div(block.sk, root, out=t)))
        torch.sub(block.x0, t, alpha=block.rate, out=t)
        if options.momentum > 0:
            block.param.mul_(options.momentum).add_(t, alpha=1 - options.momentum)
        else:
            block.param.copy_(t)
