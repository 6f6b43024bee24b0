"""LoRA on attention and feed-forward layers, kohya's `networks.lora`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import NetworkConfig
from .base import ALGORITHMS, Layer
from .low_rank import (
    DOWN,
    UP,
    init_low_rank,
    low_rank_constants,
    low_rank_delta,
    low_rank_forward,
    resolved_alpha,
)
from .targets import Adaptable


@ALGORITHMS.register("lora", "LoRA")
class Lora:
    """ΔW = alpha/rank · up · down on every attention and feed-forward layer."""

    suffixes: tuple[str, ...] = (DOWN, UP)
    reaches_convolutions = False

    def __init__(self, config: NetworkConfig):
        """Takes rank, alpha and dropout."""
        self.rank, self.alpha, self.dropout = config.rank, config.alpha, config.dropout

    def size(self, module: Adaptable) -> tuple[int, float]:
        """The same for every layer."""
        return self.rank, resolved_alpha(self.alpha, self.rank)

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
