"""ΔW = scale · up · down, two thin matrices, which LoRA and LoCon share (Hu et al. 2021, arXiv:2106.09685).

With use_tucker, a convolution's kernel stands between them: up · mid · down, where only `mid` is larger than 1×1."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NetworkConfig
from .base import BaseAlgorithm, Layer, convolved, dropped, has_kernel, scaled, with_dropped_ranks
from .targets import Adaptable

DOWN, UP, MID = "lora_down.weight", "lora_up.weight", "lora_mid.weight"


class LowRank(BaseAlgorithm):
    """ΔW = scale · up · down; on k×k convolutions `down` (under use_tucker `mid`) is k×k and `up` is 1×1."""

    suffixes: tuple[str, ...] = (DOWN, UP, MID)
    multiplied: tuple[str, ...] = suffixes

    def __init__(self, config: NetworkConfig):
        """Takes rank, alpha, the dropouts and use_tucker."""
        super().__init__(config)
        self._use_tucker = config.use_tucker

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """down (and mid) ~ Kaiming-uniform(√5) as kohya draws it, up = 0.

        Linear: down [rank, in], up [out, rank]. Conv2d: down [rank, in, kh, kw], up [out, rank, 1, 1]; under use_tucker
        down [rank, in, 1, 1], mid [rank, rank, kh, kw]."""
        out, *inner = layer.module.weight.shape
        one = (1,) * (len(inner) - 1)
        up = torch.zeros(out, layer.rank, *one)
        if not (self._use_tucker and has_kernel(layer.module)):
            return {DOWN: kaiming_uniform(layer.rank, *inner, generator=generator), UP: up}
        down = kaiming_uniform(layer.rank, inner[0], *one, generator=generator)
        return {DOWN: down, UP: up, MID: kaiming_uniform(layer.rank, layer.rank, *inner[1:], generator=generator)}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """scale · up · down, shaped like the layer's weight."""
        down, up = flat_factors(weights)
        return (layer.scale * (up @ down)).view(layer.module.weight.shape)

    def sum_of_squares(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """scale² · ⟨upᵀ up, down downᵀ⟩, rank × rank instead of out × in."""
        down, up = flat_factors(weights)
        return layer.scale**2 * ((up.t() @ up) * (down @ down.t())).sum()

    def column_moments(self, layer: Layer, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `low_rank_column_moments`."""
        down, up = flat_factors(weights)
        return low_rank_column_moments(layer, down, up)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y + scale · up(down(x)), rank-wide in the middle: about 1.04 times the layer's own cost at rank 16.

        Computes in the weights' dtype; casts only where x or y have another."""
        down, up = weights[DOWN], weights[UP]
        inner = _inner(layer, weights, x.to(down.dtype))
        inner = dropped(inner, self.dropout, seed)
        is_conv = isinstance(layer.module, nn.Conv2d)
        inner = with_dropped_ranks(inner, self.rank_dropout, seed, channels_last=not is_conv)
        return with_added(layer.module, y, inner, up, layer.scale)


def with_added(module: Adaptable, y: Tensor, inner: Tensor, up: Tensor, scale: float) -> Tensor:
    """y + scale · up(inner), in y's dtype. up: [out, rank], on convolutions [out, rank, 1, 1]."""
    outer = y.to(inner.dtype)  # not up's: under autocast the products come in autocast's dtype
    if isinstance(module, nn.Conv2d):
        return (outer + F.conv2d(inner, scaled(up, scale))).to(y.dtype)
    flat = torch.addmm(outer.reshape(-1, up.shape[0]), inner.reshape(-1, up.shape[1]), up.t(), alpha=scale)
    return flat.view(y.shape).to(y.dtype)


def low_rank_column_moments(layer: Layer, down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """(⟨W, ΔW⟩, ‖ΔW‖²) for each input of the layer, fp32 [in]; W and ΔW flattened to [out, in · kh · kw].

    ΔW is never built: both need rank × in numbers, and rank passes over W."""
    weight = layer.module.weight.detach().flatten(1).to(up.dtype)
    cross = (down * (up.t() @ weight)).float()
    squares = (down * ((up.t() @ up) @ down)).float()
    return layer.scale * by_column(layer, cross), layer.scale**2 * by_column(layer, squares)


def by_column(layer: Layer, values: Tensor) -> Tensor:
    """values: [any, in · kh · kw] → their sum for each input of the layer, [in]."""
    return values.sum(0).view(layer.module.weight.shape[1], -1).sum(1)


def flat_factors(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(down [rank, in · kh · kw], up [out, rank]), with mid multiplied into down."""
    down, up = weights[DOWN], weights[UP].flatten(1)
    if MID not in weights:
        return down.flatten(1), up
    return torch.einsum("mnkl,ni->mikl", weights[MID], down.flatten(1)).flatten(1), up


def kaiming_uniform(*shape: int, generator: torch.Generator) -> Tensor:
    """As torch initialises a Linear or Conv2d of this weight: uniform in ±1/√fan_in. fp32 on the CPU."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))  # kaiming_uniform(a=√5) is U(±1/√fan_in)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _inner(layer: Layer, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    down = weights[DOWN]
    if not isinstance(layer.module, nn.Conv2d):
        return F.linear(x, down)
    if MID in weights:
        return convolved(layer.module, F.conv2d(x, down), weights[MID])
    return convolved(layer.module, x, down)
