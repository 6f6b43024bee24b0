"""D-Adapted Lion over a flat buffer, as dadaptation 3.2 computes it (Lion: Chen et al. 2023, arXiv:2302.06675)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import setting
from .base import OPTIMIZERS, check_betas, check_positive, read_options
from .blocks import Blocks
from .flat import FlatBuffer
from .flat_optimizer import FlatOptimizer, Form, Numbers, PackageForm, grown, settled
from .scalars import fp32_scalars


@dataclass(frozen=True)
class DAdaptLionOptions:
    """dadaptation's options, names and defaults; it has neither decouple nor growth_rate."""

    betas: tuple[float, float] = setting((0.9, 0.99), help="Memory of the direction and of the gradient.")
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero, as in AdamW.", ge=0)
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")

    def __post_init__(self):
        check_betas(self.betas)
        check_positive(d0=self.d0)


@OPTIMIZERS.register("DAdaptLion")
def dadapt_lion(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[DAdaptLionOptions]:
    """Steps of one length, d · lr, in the direction of the gradient's sign. One pass, by the d that it began with.

    Unlike in the package, a step at rate 0 leaves the moments alone. Raises ConfigError for an unknown or impossible
    option."""
    form = Form(streams=("s", "exp_avg"), sums=("numerator", "sk_l1"), numbers=("numerator_weighted",))
    package = PackageForm(counts=False)
    return FlatOptimizer(buffer, read_options(DAdaptLionOptions, options), form, _step, package, block_numel)


def _step(options: DAdaptLionOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    dlr = numbers["d"] * lr
    _move(options, blocks, dlr)
    root = math.sqrt(options.betas[1])
    # Rates do not enter: a sign is the same on any scale, and with it s.
    numerator = root * numbers["numerator_weighted"] + (1 - root) * dlr * blocks.plain_total("numerator")
    sk_l1 = blocks.plain_total("sk_l1")
    d = grown(numbers["d"], numerator / ((1 - root) * sk_l1), math.inf)
    return settled(numbers, sk_l1 > 0, d=d, numerator_weighted=numerator)


def _move(options: DAdaptLionOptions, blocks: Blocks, dlr: Tensor) -> None:
    """The pass: decay, the step itself, the moment, s, and each block's share of the estimate of d."""
    beta1, beta2 = options.betas
    root = math.sqrt(beta2)
    stride, decay = fp32_scalars(dlr, -options.weight_decay * dlr)
    scratch = blocks.scratch()
    for block in blocks:
        sign = scratch[: block.param.numel()]
        torch.mul(block.exp_avg, beta1, out=sign).add_(block.grad, alpha=1 - beta1).sign_()
        if options.weight_decay > 0:
            block.param.addcmul_(block.param, decay)
        block.param.addcmul_(sign, stride, value=-block.rate)
        block.exp_avg.mul_(beta2).addcmul_(block.grad, stride, value=1 - beta2)
        block.numerator.copy_(torch.dot(sign, block.s))
        block.s.mul_(root).addcmul_(sign, stride, value=1 - root)
        torch.sum(torch.abs(block.s, out=sign), dim=0, out=block.sk_l1)
