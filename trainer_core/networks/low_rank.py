"""ΔW = scale · up · down, two thin matrices, which LoRA and LoCon share (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Layer, dropped
from .targets import Adaptable

DOWN, UP = "lora_down.weight", "lora_up.weight"


def init_low_rank(layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
    """down ~ Kaiming-uniform(√5) as kohya draws it, up = 0.

    Linear: down [rank, in], up [out, rank]. Conv2d: down [rank, in, kh, kw], up [out, rank, 1, 1]."""
    weight = layer.module.weight
    one = (1,) * (weight.ndim - 2)
    bound = 1 / math.sqrt(weight[0].numel())  # kaiming_uniform(a=√5) is U(±1/√fan_in)
    down = torch.empty(layer.rank, *weight.shape[1:]).uniform_(-bound, bound, generator=generator)
    return {DOWN: down, UP: torch.zeros(weight.shape[0], layer.rank, *one)}


def low_rank_constants(layer: Layer) -> dict[str, Tensor]:
    """alpha as kohya saves it; loaders scale by alpha / rank."""
    return {"alpha": torch.tensor(float(layer.alpha))}


def low_rank_delta(layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
    """scale · up · down, shaped like the layer's weight."""
    down, up = weights[DOWN], weights[UP]
    return (layer.scale * (up.flatten(1) @ down.flatten(1))).view(layer.module.weight.shape)


def low_rank_forward(
    layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, dropout: float, seed: int | None
) -> Tensor:
    """y + scale · up(down(x)), rank-wide in the middle: about 1.04 times the layer's own cost at rank 16.

    Computes in the weights' dtype; casts only where x or y have another."""
    down, up = weights[DOWN], weights[UP]
    inner = x.to(down.dtype)
    inner = F.linear(inner, down) if isinstance(layer.module, nn.Linear) else convolved(layer.module, inner, down)
    inner = dropped(inner, dropout, seed)
    outer = y.to(inner.dtype)  # not up's: under autocast the products come in autocast's dtype
    if isinstance(layer.module, nn.Linear):
        flat = torch.addmm(outer.reshape(-1, up.shape[0]), inner.reshape(-1, layer.rank), up.t(), alpha=layer.scale)
        return flat.view(y.shape).to(y.dtype)
    return (outer + F.conv2d(inner, scaled(up, layer.scale))).to(y.dtype)


def convolved(module: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """x convolved with another weight in the module's own way: stride, dilation, padding and padding mode; no bias."""
    # the plain class's, as hosts subclass Conv2d to cast their own weight
    return nn.Conv2d._conv_forward(module, x, weight, None)


def scaled(weight: Tensor, scale: float) -> Tensor:
    """scale · weight, without a kernel where scale is 1: cheaper than scaling activations."""
    return weight if scale == 1 else weight * scale


def resolved_alpha(alpha: float, rank: int) -> float:
    """alpha, or the rank where alpha is 0, as in kohya."""
    return alpha or float(rank)


def has_kernel(module: Adaptable) -> bool:
    """Whether the layer is a convolution that looks at more than one pixel."""
    return isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
