"""LoCon: LoRA on the UNet's convolutional blocks too, kohya's `networks.lora` with conv_dim (LyCORIS `locon`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import NetworkConfig
from .base import ALGORITHMS, Layer
from .low_rank import (
    DOWN,
    UP,
    has_kernel,
    init_low_rank,
    low_rank_constants,
    low_rank_delta,
    low_rank_forward,
    resolved_alpha,
)
from .targets import Adaptable


@ALGORITHMS.register("locon", "LoCon", "c3lier")
class LoCon:
    """ΔW = alpha/rank · up · down; on k×k convolutions `down` is k×k at conv_rank and `up` is 1×1."""

    suffixes: tuple[str, ...] = (DOWN, UP)
    reaches_convolutions = True

    def __init__(self, config: NetworkConfig):
        """Takes rank, alpha and dropout; conv_rank and conv_alpha, left out, are rank and alpha (LyCORIS)."""
        self.rank, self.alpha, self.dropout = config.rank, config.alpha, config.dropout
        self.conv_rank = config.rank if config.conv_rank is None else config.conv_rank
        self.conv_alpha = config.alpha if config.conv_alpha is None else config.conv_alpha

    def size(self, module: Adaptable) -> tuple[int, float]:
        """conv_rank and conv_alpha on convolutions with a kernel; rank and alpha on Linear and 1×1 layers, as kohya."""
        rank, alpha = (self.conv_rank, self.conv_alpha) if has_kernel(module) else (self.rank, self.alpha)
        return rank, resolved_alpha(alpha, rank)

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """See `init_low_rank`."""
        return init_low_rank(layer, generator)

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """See `low_rank_constants`."""
        return low_rank_constants(layer)

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """See `low_rank_delta`."""
        return low_rank_delta(layer, weights)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """See `low_rank_forward`."""
        return low_rank_forward(layer, weights, x, y, self.dropout, seed)
