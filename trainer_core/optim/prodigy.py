"""Prodigy (Mishchenko & Defazio 2023, arXiv:2306.06101) over a flat buffer, as prodigyopt 1.1.2 computes it."""

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
from .flat_optimizer import FlatOptimizer, Form, Numbers, PackageForm, settled
from .scalars import bias_correction, fp32_scalars


@dataclass(frozen=True)
class ProdigyOptions:
    """prodigyopt's options, names and defaults."""

    betas: tuple[float, float] = setting(
        (0.9, 0.999), help="Memory of the gradient and of its square; 0.9,0.99 forgets faster."
    )
    beta3: float | None = setting(None, help="Memory of the step size estimate; the root of beta2 when left out.", ge=0)
    eps: float = setting(1e-8, help="Added to the root, times d.")
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero.", ge=0)
    decouple: bool = setting(True, help="Decay as AdamW does, instead of through the gradient.")
    use_bias_correction: bool = setting(False, help="Adam's bias correction, which makes the first steps smaller.")
    safeguard_warmup: bool = setting(False, help="Keep the warm-up's small rates from inflating d.")
    d0: float = setting(1e-6, help="The first guess of d; raise it if d never leaves it.")
    d_coef: float = setting(1.0, help="Factor on the estimate of d: the intended knob, 0.5 to 2.")
    growth_rate: float = setting(math.inf, help="The most that d may grow by in one step, e.g. 1.02.")
    slice_p: int = setting(1, help="Estimate d from every n-th element only; 11 saves a third of the memory.", ge=1)

    def __post_init__(self):
        check_betas(self.betas)
        check_positive(eps=self.eps, d0=self.d0, d_coef=self.d_coef)
        check_growth_rate(self.growth_rate)

    @property
    def estimate_beta(self) -> float:
        """beta3, filled in."""
        return math.sqrt(self.betas[1]) if self.beta3 is None else self.beta3


@OPTIMIZERS.register("Prodigy")
def prodigy(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[ProdigyOptions]:
    """Adam that learns its step size d from how far the parameters have come (arXiv:2306.06101, algorithm 4).

    Two passes: the new d stands beside the root. While every gradient so far was zero nothing changes, as in
    prodigyopt. Raises ConfigError for an unknown or impossible option."""
    read = read_options(ProdigyOptions, options)
    form = Form(
        streams=("p0", "s", "exp_avg", "exp_avg_sq") if read.betas[0] > 0 else ("p0", "s", "exp_avg_sq"),
        sums=("numerator", "denominator"),
        numbers=("d_max", "d_numerator"),
        filled={"d_max": read.d0},
        copied=("p0",),
        sampled=("p0", "s"),
        stride=read.slice_p,
    )
    return FlatOptimizer(buffer, read, form, _step, PackageForm(parameter=_as_prodigyopt_keeps_them), block_numel)


def _step(options: ProdigyOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    dlr = numbers["d"] * lr
    if options.use_bias_correction:
        dlr = dlr * bias_correction(options.betas, numbers["k"])
    _observe(options, blocks, numbers["d"], dlr)
    estimated = _estimate(options, blocks, numbers, dlr)
    _move(options, blocks, estimated["d"], dlr, estimated["k"] > numbers["k"])
    return estimated


def _observe(options: ProdigyOptions, blocks: Blocks, d: Tensor, dlr: Tensor) -> None:
    """First pass: the moments, s, and each block's share of the estimate of d."""
    beta1, beta2 = options.betas
    d, weight = fp32_scalars(d, (d if options.safeguard_warmup else dlr) / options.d0)
    scratch, decayed = blocks.scratch(), _room_for_decay(options, blocks)
    for block in blocks:
        t = scratch[: block.param.numel()]
        grad = gradient(block, options.weight_decay, decayed)
        way = torch.sub(block.p0, block.sampled(block.param), out=scratch[: block.p0.numel()])
        block.numerator.copy_(torch.dot(block.sampled(grad), way))
        torch.mul(grad, d, out=t)
        if beta1 > 0:
            block.exp_avg.lerp_(t, 1 - beta1)
        block.exp_avg_sq.mul_(beta2).addcmul_(t, t, value=1 - beta2)
        block.s.mul_(options.estimate_beta).addcmul_(block.sampled(t), weight)
        torch.sum(torch.abs(block.s, out=scratch[: block.s.numel()]), dim=0, out=block.denominator)


def _estimate(options: ProdigyOptions, blocks: Blocks, numbers: Numbers, dlr: Tensor) -> Numbers:
    """The new d from the sums of the first pass."""
    d = numbers["d"]
    new = d / options.d0 * dlr * blocks.plain_total("numerator")
    numerator = numbers["d_numerator"] * options.estimate_beta + new
    denominator = blocks.total("denominator")
    d_hat = options.d_coef * numerator / denominator
    first = torch.where(d == options.d0, torch.maximum(d, d_hat), d)
    d_max = torch.maximum(numbers["d_max"], d_hat)
    d = torch.minimum(d_max, first * options.growth_rate)
    return settled(numbers, denominator > 0, d=d, d_max=d_max, d_numerator=numerator)


def _move(options: ProdigyOptions, blocks: Blocks, d: Tensor, dlr: Tensor, moves: Tensor) -> None:
    """Second pass: the step by the old d, with the new one beside the root."""
    has_first_moment = options.betas[0] > 0
    # Without a first moment the gradient takes its place, and brings no d of its own.
    stride = -dlr if has_first_moment else -dlr * d
    eps, stride, decay = fp32_scalars(d * options.eps, stride, -options.weight_decay * dlr * moves)
    scratch, decayed = blocks.scratch(), _room_for_decay(options, blocks)
    for block in reversed(blocks):  # the first pass left the last blocks in the cache
        t = scratch[: block.param.numel()]
        direction = block.exp_avg if has_first_moment else gradient(block, options.weight_decay, decayed)
        torch.sqrt(block.exp_avg_sq, out=t).add_(eps)
        torch.div(direction, t, out=t)
        if options.weight_decay > 0 and options.decouple:
            block.param.addcmul_(block.param, decay)
        block.param.addcmul_(t, stride, value=block.rate)


def _room_for_decay(options: ProdigyOptions, blocks: Blocks) -> Tensor | None:
    return blocks.scratch() if options.weight_decay > 0 and not options.decouple else None


def _as_prodigyopt_keeps_them(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # s and p0 as vectors, and a p0 of zeros as a scalar.
    p0 = tensors["p0"].flatten()
    return {**tensors, "s": tensors["s"].flatten(), "p0": p0 if p0.any() else p0.new_tensor(0)}
