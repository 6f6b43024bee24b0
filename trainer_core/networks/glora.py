"""GLoRA: a low-rank change of the layer's weight and a low-rank change of its input, in one.

Chavan et al. 2023, arXiv:2306.07967, in the form and with the names of LyCORIS' `glora`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from .base import ALGORITHMS, BaseAlgorithm, Layer, convolved, dropped, scaled, with_dropped_ranks
from .low_rank import kaiming_uniform

A1, A2, B1, B2 = "a1.weight", "a2.weight", "b1.weight", "b2.weight"


@ALGORITHMS.register("glora")
class GLoRA(BaseAlgorithm):
    """ΔW = alpha/rank · (W · a1 · a2 + b1 · b2); on k×k convolutions b2 is k×k and the others are 1×1."""

    suffixes: tuple[str, ...] = (A1, A2, B1, B2)
    reaches_convolutions = True

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """a1 and b1 ~ Kaiming-uniform(√5), a2 and b2 = 0, as LyCORIS starts.

        Linear: a1 [in, rank], a2 [rank, in], b1 [out, rank], b2 [rank, in]; Conv2d: the same with kernels.
        Raises ConfigError for a square layer as wide as the rank, whose file loaders would take for an older format."""
        outputs, inputs, *kernel = layer.module.weight.shape
        if layer.rank == inputs == outputs:
            raise ConfigError(
                f"{layer.name}: loaders mistake GLoRA files whose rank is the layer's width ({inputs}) for an older "
                "format; give a smaller rank"
            )
        ones = [1] * len(kernel)
        return {
            A1: kaiming_uniform(inputs, layer.rank, *ones, generator=generator),
            A2: torch.zeros(layer.rank, inputs, *ones),
            B1: kaiming_uniform(outputs, layer.rank, *ones, generator=generator),
            B2: torch.zeros(layer.rank, inputs, *kernel),
        }

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """alpha/rank · (W · a1 · a2 + b1 · b2)."""
        a2, b1, b2 = weights[A2], weights[B1], weights[B2]
        of_input = torch.einsum("or...,ri->oi...", _through_base(layer, weights[A1]), a2.flatten(1))
        return layer.scale * (of_input + (b1.flatten(1) @ b2.flatten(1)).view(of_input.shape))

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y + scale · ((W·a1)(a2(x)) + b1(b2(x))): two LoRAs, one of whose ups is W·a1, a product of the weights alone.

        The layer itself is not run a second time, and a change of x too small for x's precision is not lost."""
        a2, b1, b2 = weights[A2], scaled(weights[B1], layer.scale), weights[B2]
        a1 = scaled(_through_base(layer, weights[A1]), layer.scale)
        x, module = x.to(a2.dtype), layer.module
        if isinstance(module, nn.Conv2d):
            of_input = self._dropped(F.conv2d(x, a2), seed, channels_last=False)
            of_weight = self._dropped(convolved(module, x, b2), seed, channels_last=False)
            return (y + convolved(module, of_input, a1) + F.conv2d(of_weight, b1)).to(y.dtype)
        inner = self._dropped(F.linear(x, torch.cat((a2, b2))), seed, channels_last=True)
        return (y + F.linear(inner, torch.cat((a1, b1), 1))).to(y.dtype)

    def _dropped(self, inner: Tensor, seed: int | None, channels_last: bool) -> Tensor:
        inner = dropped(inner, self.dropout, seed)
        return with_dropped_ranks(inner, self.rank_dropout, seed, channels_last)


def _through_base(layer: Layer, a1: Tensor) -> Tensor:
    """W · a1: [out, rank, *kernel]."""
    return torch.einsum("oi...,ir->or...", layer.module.weight.to(a1.dtype), a1.flatten(1))
