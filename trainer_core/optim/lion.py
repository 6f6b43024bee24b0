"""Lion (Chen et al. 2023, arXiv:2302.06675) over a flat buffer, as lion-pytorch 0.2.5 computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..settings import setting
from .base import OPTIMIZERS, check_betas, read_options
from .blocks import Blocks
from .flat import FlatBuffer
from .flat_optimizer import FlatOptimizer, Form, Numbers, PackageForm


@dataclass(frozen=True)
class LionOptions:
    """lion-pytorch's options, names and defaults."""

    betas: tuple[float, float] = setting((0.9, 0.99), help="Memory of the direction and of the gradient.")
    weight_decay: float = setting(0.0, help="How strongly parameters are drawn to zero.", ge=0)
    decoupled_weight_decay: bool = setting(False, help="Decay that does not grow with the learning rate.")

    def __post_init__(self):
        check_betas(self.betas)


@OPTIMIZERS.register("Lion")
def lion(
    buffer: FlatBuffer, options: Mapping[str, object], block_numel: int | None = None
) -> FlatOptimizer[LionOptions]:
    """Steps of one length, the learning rate, in the direction of the gradient's sign: a third of AdamW's rate or less.

    A step at rate 0 still takes the gradient in, as in the package. Raises ConfigError for an unknown or impossible
    option."""
    form = Form(streams=("exp_avg",), moves_at_zero=True)
    package = PackageForm(counts=False)
    return FlatOptimizer(buffer, read_options(LionOptions, options), form, _step, package, block_numel)


def _step(options: LionOptions, blocks: Blocks, numbers: Numbers, lr: float) -> Numbers:
    beta1, beta2 = options.betas
    weight_decay = options.weight_decay / blocks.lr if options.decoupled_weight_decay else options.weight_decay
    scratch = blocks.scratch()
    for block in blocks:
        sign = scratch[: block.param.numel()]
        torch.mul(block.exp_avg, beta1, out=sign).add_(block.grad, alpha=1 - beta1).sign_()
        if weight_decay > 0:
            block.param.mul_(1 - block.rate * lr * weight_decay)
        block.param.add_(sign, alpha=-block.rate * lr)
        block.exp_avg.mul_(beta2).add_(block.grad, alpha=1 - beta2)
    return {"k": numbers["k"] + 1}
