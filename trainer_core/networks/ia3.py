"""(IA)³: one number per channel that scales what a layer gives or takes (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import NetworkConfig
from .base import ALGORITHMS, BaseAlgorithm, Layer
from .channels import along_channels, without_bias
from .targets import Adaptable

SCALE, ON_INPUT = "weight", "on_input"
_TAKES_ACTIVATIONS = (".ff.net.2", ".mlp.fc2")


@ALGORITHMS.register("ia3", "(IA)3", "(IA)³")
class IA3(BaseAlgorithm):
    """ΔW = diag(s) · W on keys and values; with train_on_input W · diag(s) on what follows the feed-forward's
    activation, as in the paper and in LyCORIS' preset "ia3". Saved as LyCORIS saves it: `weight` is s, `on_input` says
    on which side. There is no rank and no alpha."""

    suffixes: tuple[str, ...] = (SCALE,)
    usual_preset = "ia3"

    def __init__(self, config: NetworkConfig):
        """Takes train_on_input."""
        self.train_on_input = config.train_on_input

    def size(self, module: Adaptable) -> tuple[int, float]:
        """1 and 1: it has no size."""
        return 1, 1.0

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """s = 0. Linear: [channels]; Conv2d: [1, channels, 1, 1], as LyCORIS shapes it."""
        out_channels, in_channels, *kernel = layer.module.weight.shape
        channels = in_channels if self.changes_input(layer) else out_channels
        return {SCALE: torch.zeros(1, channels, 1, 1) if kernel else torch.zeros(channels)}

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """on_input: 1 where s scales the input, else 0."""
        return {ON_INPUT: torch.tensor(int(self.changes_input(layer)))}

    def changes_input(self, layer: Layer) -> bool:
        """Whether s scales what the layer takes."""
        return self.train_on_input and layer.name.endswith(_TAKES_ACTIVATIONS)

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """The weight's rows, or columns, times s."""
        scale = weights[SCALE].flatten()
        weight = layer.module.weight.to(scale.dtype)
        axis = 1 if self.changes_input(layer) else 0
        return weight * scale.view([-1 if each == axis else 1 for each in range(weight.ndim)])

    def input(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, seed: int | None) -> Tensor:
        """x · (1 + s), in x's dtype: no more than one product beside the layer itself."""
        return torch.addcmul(x, x, along_channels(layer.module, weights[SCALE].flatten().to(x.dtype)))

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y + s · (y - bias): no more than one product beside the layer itself."""
        scale = along_channels(layer.module, weights[SCALE].flatten().to(y.dtype))
        return torch.addcmul(y, without_bias(layer.module, y), scale)
