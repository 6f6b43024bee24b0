"""Full: ΔW itself is what trains, LyCORIS' native fine-tuning (`full`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import NetworkConfig
from .base import ALGORITHMS, BaseAlgorithm, Layer, applied
from .channels import along_channels
from .targets import Adaptable

DIFF, DIFF_BIAS = "diff", "diff_b"


@ALGORITHMS.register("full", "diff", "native")
class Full(BaseAlgorithm):
    """ΔW and, where the layer has a bias, Δb, as many numbers as the layer has. There is no rank and no alpha."""

    suffixes: tuple[str, ...] = (DIFF, DIFF_BIAS)
    reaches_convolutions = True

    def __init__(self, config: NetworkConfig):
        """Takes no options."""

    def size(self, module: Adaptable) -> tuple[int, float]:
        """1 and 1: it has no size."""
        return 1, 1.0

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros, shaped like the layer's weight and bias."""
        weight, bias = layer.module.weight, layer.module.bias
        return {DIFF: torch.zeros(weight.shape), **({} if bias is None else {DIFF_BIAS: torch.zeros(bias.shape)})}

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """None: loaders add a diff as it is."""
        return {}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """What trains."""
        return weights[DIFF]

    def delta_bias(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor | None:
        """What trains; None for a layer without a bias."""
        return weights.get(DIFF_BIAS)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y plus the layer's own operation with ΔW and Δb, so that nothing is lost to the precision of W."""
        diff, bias = weights[DIFF], weights.get(DIFF_BIAS)
        changed = y + applied(layer.module, x.to(diff.dtype), diff)
        return (changed if bias is None else changed + along_channels(layer.module, bias)).to(y.dtype)
