"""D-Adapted Adan and AdanIP over a flat buffer, as in dadaptation 3.2 (Adan: Xie et al., arXiv:2208.06677)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import setting
from .base import OPTIMIZERS, check_betas, check_growth_rate, check_positive, read_options
from .blocks import Block, Blocks
from .flat import FlatBuffer
from .flat_optimizer import FlatOptimizer, Form, Numbers, PackageForm, grown, settled
from .scalars import fp32_scalars

_STREAMS = ("s", "exp_avg", "exp_avg_diff", "exp_avg_sq", "pre_grad")


@dataclass(frozen=True)
class DAdaptAdanOptions:
    """dadaptation's options, names and defaults."""

    betas: tuple[float, float, float] = setting(
        (0.98, 0.92, 0.99), help="Memory of the gradient, of its change, and of its square."
    )
    eps: float = setting(1e-8, help="Added to the root.")
    weight_decay: float = setting(0.02, help="How strongly parameters are drawn to zero.", ge=0)
    no_prox: bool = setting(False, help="Decay before the step, as AdamW does, instead of after it.")
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")

    def __post_init__(self):
        check_betas(self.betas, 3)
        check_positive(eps=self.eps, d0=self.d0)
        check_growth_rate(self.growth_rate)


@OPTIMIZERS.register("DAdaptAdan")
def dadapt_adan(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[DAdaptAdanOptions]:
    """Adam with Nesterov's look ahead along the change of the gradient, and d estimated as in the preprint.

    One pass: a step uses the d that it began with. Unlike in the package, decay also applies while every gradient so
    far was zero, and a step at rate 0 leaves everything alone. Raises ConfigError for an unknown or impossible
    option."""
    form = Form(streams=_STREAMS, sums=("g_sq", "sk_sq", "sk_l1"), numbers=("gsq_weighted",))
    return FlatOptimizer(buffer, read_options(DAdaptAdanOptions, options), form, _step_adan, None, block_numel)


@OPTIMIZERS.register("DAdaptAdanIP")
def dadapt_adan_ip(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[DAdaptAdanOptions]:
    """DAdaptAdan with d from inner products of gradients with their sum: a tighter bound, and so larger steps.

    The package's d is a tensor, and it keeps the squares and the changes under each other's names. Else as
    DAdaptAdan. Raises ConfigError for an unknown or impossible option."""
    form = Form(streams=_STREAMS, sums=("numerator", "sk_l1"), numbers=("numerator_weighted",))
    package = PackageForm(parameter=_with_swapped_names, views=_with_swapped_names)
    return FlatOptimizer(buffer, read_options(DAdaptAdanOptions, options), form, _step_ip, package, block_numel)


def _step_adan(options: DAdaptAdanOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    dlr, beta3 = numbers["d"] * lr, options.betas[2]
    scalars = _Scalars.of(options, numbers, dlr)
    scratch, roots = blocks.scratch(), blocks.scratch()
    for block in blocks:
        t, root = scratch[: block.param.numel()], roots[: block.param.numel()]
        _remember(options, block, scalars, t, root)
        _root(options, block, root)
        block.g_sq.copy_(torch.dot(block.grad, torch.div(block.grad, root, out=t)))
        block.sk_sq.copy_(torch.dot(block.s, torch.div(block.s, root, out=t)))
        torch.sum(torch.abs(block.s, out=t), dim=0, out=block.sk_l1)
        _move(options, block, scalars, t, root)
    gsq_weighted = beta3 * numbers["gsq_weighted"] + (1 - beta3) * dlr.square() * blocks.total("g_sq")
    sk_l1 = blocks.total("sk_l1")
    d_hat = (blocks.total("sk_sq") / (1 - beta3) - gsq_weighted) / sk_l1
    return settled(numbers, sk_l1 > 0, d=grown(numbers["d"], d_hat, options.growth_rate), gsq_weighted=gsq_weighted)


def _step_ip(options: DAdaptAdanOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    dlr, beta3 = numbers["d"] * lr, options.betas[2]
    scalars = _Scalars.of(options, numbers, dlr)
    scratch, roots = blocks.scratch(), blocks.scratch()
    for block in blocks:
        t, root = scratch[: block.param.numel()], roots[: block.param.numel()]
        _root(options, block, root)
        block.numerator.copy_(torch.dot(block.grad, torch.div(block.s, root, out=t)))
        _remember(options, block, scalars, t, root)
        _root(options, block, root)
        torch.sum(torch.abs(block.s, out=t), dim=0, out=block.sk_l1)
        _move(options, block, scalars, t, root)
    numerator = beta3 * numbers["numerator_weighted"] + (1 - beta3) * dlr * blocks.total("numerator")
    sk_l1 = blocks.total("sk_l1")
    d_hat = 2 * beta3 / (1 - beta3) * numerator / sk_l1
    return settled(numbers, sk_l1 > 0, d=grown(numbers["d"], d_hat, options.growth_rate), numerator_weighted=numerator)


@dataclass(frozen=True)
class _Scalars:
    """What every block of a step takes, as 0-dim fp32: d · lr, whether a step was made before, and the decay."""

    stride: Tensor
    has_begun: Tensor
    decay: Tensor

    @staticmethod
    def of(options: DAdaptAdanOptions, numbers: Numbers, dlr: Tensor) -> _Scalars:
        decay = 1 - dlr * options.weight_decay if options.no_prox else 1 + dlr * options.weight_decay
        return _Scalars(*fp32_scalars(dlr, numbers["k"].clamp(max=1), decay))


def _remember(options: DAdaptAdanOptions, block: Block, scalars: _Scalars, change: Tensor, ahead: Tensor) -> None:
    """Take the gradient into the moments and s."""
    beta1, beta2, beta3 = options.betas
    torch.sub(block.grad, block.pre_grad, out=change).mul_(scalars.has_begun)  # the first gradient is no change
    torch.add(block.grad, change, alpha=beta2, out=ahead)
    block.exp_avg.mul_(beta1).addcmul_(block.grad, scalars.stride, value=block.rate * (1 - beta1))
    block.exp_avg_diff.mul_(beta2).addcmul_(change, scalars.stride, value=block.rate * (1 - beta2))
    block.exp_avg_sq.mul_(beta3).addcmul_(ahead, ahead, value=1 - beta3)
    block.s.mul_(beta3).addcmul_(block.grad, scalars.stride, value=1 - beta3)
    block.pre_grad.copy_(block.grad)


def _root(options: DAdaptAdanOptions, block: Block, out: Tensor) -> None:
    torch.sqrt(block.exp_avg_sq, out=out).add_(options.eps)


def _move(options: DAdaptAdanOptions, block: Block, scalars: _Scalars, direction: Tensor, root: Tensor) -> None:
    """The step itself, decay before or after it."""
    torch.add(block.exp_avg, block.exp_avg_diff, alpha=options.betas[1], out=direction)
    if options.weight_decay > 0 and options.no_prox:
        block.param.mul_(scalars.decay)
    block.param.addcdiv_(direction, root, value=-1)
    if options.weight_decay > 0 and not options.no_prox:
        block.param.div_(scalars.decay)


def _with_swapped_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**tensors, "exp_avg_diff": tensors["exp_avg_sq"], "exp_avg_sq": tensors["exp_avg_diff"]}
