"""(IA)³: one number per channel that scales what a layer gives or takes (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..config import NetworkConfig
from ..errors import RunError
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
        return _change(layer.module, weights[SCALE], self.changes_input(layer))

    def input(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, seed: int | None) -> Tensor:
        """x · (1 + s), in x's dtype: no more than one product beside the layer itself."""
        return torch.addcmul(x, x, along_channels(layer.module, weights[SCALE].flatten().to(x.dtype)))

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y + s · (y - bias): no more than one product beside the layer itself."""
        scale = along_channels(layer.module, weights[SCALE].flatten().to(y.dtype))
        return torch.addcmul(y, without_bias(layer.module, y), scale)


def as_differences(tensors: Mapping[str, Tensor], modules: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """An (IA)³ file as the `diff` of each weight, which every loader reads: exact, for the base that it is made with,
    and as large as the weights that it changes (SD1.5: 270 MB in fp16).

    tensors: under kohya's keys. modules: the base model's layers by key. Raises RunError for tensors of another kind
    and for another base."""
    found: dict[str, Tensor] = {}
    for name in sorted({key.partition(".")[0] for key in tensors}):
        scale, on_input = tensors.get(f"{name}.{SCALE}"), tensors.get(f"{name}.{ON_INPUT}")
        if scale is None or on_input is None:
            raise RunError(f"{name} has no {SCALE} and {ON_INPUT}: this is no (IA)³ file; choose one of algo ia3")
        module = modules.get(name)
        if module is None or module.weight.shape[1 if on_input else 0] != scale.numel():
            raise RunError(f"{name} does not fit this model; give the one that the file was trained on")
        found[f"{name}.diff"] = _change(module, scale.float(), bool(on_input)).to("cpu", dtype).contiguous()
    return found


def _change(module: Any, scale: Tensor, on_input: bool) -> Tensor:
    weight, axis = module.weight.to(scale.dtype), 1 if on_input else 0
    return weight * scale.view([-1 if each == axis else 1 for each in range(weight.ndim)])
