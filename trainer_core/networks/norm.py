"""Norms: the gains and offsets of the UNet's normalisation layers, by themselves (`norm`) or beside an adapter
(`train_norm`), as LyCORIS trains and saves them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NetworkConfig, trains_text_encoder
from ..errors import ConfigError
from .base import ALGORITHMS, BaseAlgorithm, Layer
from .targets import Adaptable

GAIN, OFFSET = "w_norm", "b_norm"


@ALGORITHMS.register("norm")
class Norm(BaseAlgorithm):
    """ΔW and Δb of LayerNorms and GroupNorms. There is no rank and no alpha."""

    suffixes: tuple[str, ...] = (GAIN, OFFSET)
    reaches_matrices = False
    reaches_convolutions = True
    reaches_norms = True

    def __init__(self, config: NetworkConfig):
        """Takes no options. Raises ConfigError where it is asked to train text encoders by itself: the norms of theirs
        have no names in files that ComfyUI knows."""
        super().__init__(config)
        if ALGORITHMS.get(config.algo) is Norm and trains_text_encoder(config):
            raise ConfigError(
                '"norm" trains the UNet alone, as ComfyUI loads no other norms; switch train_text_encoder off'
            )

    def size(self, module: Adaptable) -> tuple[int, float]:
        """1 and 1: it has no size."""
        return 1, 1.0

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros, shaped like the norm's weight and, where it has one, its bias."""
        weight, bias = layer.module.weight, layer.module.bias
        return {GAIN: torch.zeros(weight.shape), **({} if bias is None else {OFFSET: torch.zeros(bias.shape)})}

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """None: loaders add the two as they are."""
        return {}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """What trains."""
        return weights[GAIN]

    def delta_bias(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor | None:
        """What trains; None for a norm without a bias."""
        return weights.get(OFFSET)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y plus x normalised once more with ΔW and Δb, so that nothing is lost to the precision of the norm's own."""
        return (y + _normed(layer.module, x, weights[GAIN], weights.get(OFFSET))).to(y.dtype)


def _normed(module: Adaptable, x: Tensor, gain: Tensor, offset: Tensor | None) -> Tensor:
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x.to(gain.dtype), module.num_groups, gain, offset, module.eps)
    assert isinstance(module, nn.LayerNorm)
    return F.layer_norm(x.to(gain.dtype), gain.shape, gain, offset, module.eps)
