"""D-Adapted SGD (Defazio & Mishchenko 2023, arXiv:2301.07733) over a flat buffer, as dadaptation 3.2 computes it."""

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
class DAdaptSGDOptions:
    """dadaptation's options, names and defaults."""

    momentum: float = setting(0.0, help="How much of the last parameters an average keeps; 0.9 is usual.", ge=0)
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero, through the gradient.", ge=0)
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")

    def __post_init__(self):
        check_positive(d0=self.d0)
        check_growth_rate(self.growth_rate)
        if self.momentum >= 1:
            raise ConfigError(f'"optimizer_args.momentum" is {self.momentum}; give 0 to below 1')


@OPTIMIZERS.register("DAdaptSGD")
def dadapt_sgd(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[DAdaptSGDOptions]:
    """Dual averaging: parameters are their start minus the sum of d · lr · gradient / ‖first gradient‖.

    The first gradient that is not zero gives the norm, without decay. The package divides by zero where the first
    gradient or the first rate is. With momentum, parameters follow that point as an average. Raises ConfigError for an
    unknown or impossible option."""
    form = Form(
        streams=("s", "x0"),
        sums=("g_sq", "numerator", "sk_sq"),
        numbers=("numerator_weighted", "g0_norm"),
        copied=("x0",),
    )
    package = PackageForm(parameter=_with_the_point, counts=False)
    return FlatOptimizer(buffer, read_options(DAdaptSGDOptions, options), form, _step, package, block_numel)


def _step(options: DAdaptSGDOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    g0_norm = torch.where(numbers["g0_norm"] > 0, numbers["g0_norm"], _gradient_norm(blocks))
    dlr = torch.where(g0_norm > 0, numbers["d"] * lr / g0_norm, torch.zeros_like(g0_norm))
    _move(options, blocks, dlr)
    numerator = numbers["numerator_weighted"] + dlr * blocks.total("numerator")
    sk_sq = blocks.total("sk_sq")
    d = grown(numbers["d"], 2 * numerator / sk_sq.sqrt(), options.growth_rate)
    return settled(numbers, sk_sq > 0, d=d, numerator_weighted=numerator, g0_norm=g0_norm)


def _gradient_norm(blocks: Blocks) -> Tensor:
    # Asked in every step and used in one: whether that has been is only known on the device.
    for block in blocks:
        block.g_sq.copy_(torch.dot(block.grad, block.grad))
    return blocks.total("g_sq").sqrt()


def _move(options: DAdaptSGDOptions, blocks: Blocks, dlr: Tensor) -> None:
    """The pass: s, each block's share of the estimate of d, and the step itself."""
    (stride,) = fp32_scalars(dlr)
    scratch = blocks.scratch()
    decayed = blocks.scratch() if options.weight_decay > 0 else None
    for block in blocks:
        point = scratch[: block.param.numel()]
        grad = gradient(block, options.weight_decay, decayed)
        block.numerator.copy_(torch.dot(grad, block.s))
        block.s.addcmul_(grad, stride)
        block.sk_sq.copy_(torch.dot(block.s, block.s))
        torch.sub(block.x0, block.s, alpha=block.rate, out=point)
        if options.momentum > 0:
            block.param.mul_(options.momentum).add_(point, alpha=1 - options.momentum)
        else:
            block.param.copy_(point)


def _with_the_point(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**tensors, "z": tensors["x0"] - tensors["s"]}
