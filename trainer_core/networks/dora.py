"""DoRA: the length of each of a weight's columns is learned beside its direction (Liu et al. 2024, arXiv:2402.09353).

W + ΔW with every column brought to a learned length m (`dora_scale`): a column belongs to an input of the layer, so
that scaling it is scaling that input. LyCORIS calls this `dora_wd` with `wd_on_output=False`. Its other form, a length
for each output, is refused: ComfyUI and Forge divide it by the length of W instead of W + ΔW, A1111 by the columns'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from ..errors import ConfigError
from .base import Algorithm, Layer
from .targets import Adaptable

SCALE = "dora_scale"
_EPS = torch.finfo(torch.float32).eps  # what every loader adds to the lengths


@runtime_checkable
class Decomposable(Protocol):
    """An algorithm whose ΔW has columns that can be measured cheaply."""

    def column_moments(self, layer: Layer, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(⟨W, ΔW⟩, ‖ΔW‖²) for each input of the layer, fp32 [in], differentiable."""
        ...


def decomposed(algorithm: Algorithm, config: NetworkConfig) -> Algorithm:
    """The algorithm with DoRA on it. Raises ConfigError for one that has no such form, and for wd_on_output."""
    if not isinstance(algorithm, Decomposable):
        raise ConfigError(f"dora_wd goes with lora, locon, loha and lokr, not with {config.algo}; switch it off")
    if config.wd_on_output:
        raise ConfigError(
            "wd_on_output makes files that ComfyUI, Forge and A1111 load as something else than was trained; "
            "switch it off, DoRA then learns the lengths on the inputs, which all of them load right"
        )
    return Decomposed(algorithm, algorithm)


class Decomposed:
    """W + ΔW, its columns scaled to the lengths `dora_scale` [1, in] (convolutions: [1, in, 1, 1]).

    The lengths before come from ‖W‖² + 2⟨W, ΔW⟩ + ‖ΔW‖², so that W + ΔW is never built, and small changes of
    half-precision weights are not rounded away. The gradient runs through them, as in LyCORIS. Dropouts act on ΔW x,
    not on the lengths, as in PEFT."""

    def __init__(self, algorithm: Algorithm, moments: Decomposable):
        """Use `decomposed`."""
        self._algorithm, self._moments = algorithm, moments
        self.suffixes, self.precise = (*algorithm.suffixes, SCALE), (*algorithm.precise, SCALE)
        self.multiplied = algorithm.multiplied
        self.reaches_matrices, self.reaches_norms = algorithm.reaches_matrices, algorithm.reaches_norms
        self.reaches_convolutions, self.usual_preset = algorithm.reaches_convolutions, algorithm.usual_preset
        self.size, self.constants = algorithm.size, algorithm.constants
        self.delta_bias, self.forward = algorithm.delta_bias, algorithm.forward
        self._squares: dict[nn.Module, Tensor] = {}

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """The algorithm's own start, and the columns' lengths as they are."""
        squares = self._base_squares(layer.module)
        lengths = torch.ones(squares.shape) if squares.is_meta else squares.sqrt().cpu()
        return {**self._algorithm.init(layer, generator), SCALE: lengths.view(_columns(layer.module))}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """(W + ΔW) ∘ m / ‖W + ΔW‖ - W, shaped like the layer's weight."""
        added = self._algorithm.delta(layer, weights)
        weight = layer.module.weight.detach().to(added.dtype)
        scales = self._scales(layer, weights).view(_columns(layer.module)).to(added.dtype)
        return weight * (scales - 1) + added * scales

    def changes_input(self, layer: Layer) -> bool:
        """Every input is scaled."""
        return True

    def changes_output(self, layer: Layer) -> bool:
        """And ΔW x added."""
        return True

    def input(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, seed: int | None) -> Tensor:
        """x, each of its channels times m / ‖W + ΔW‖."""
        scales = self._scales(layer, weights)
        return (x * (scales.view(-1, 1, 1) if isinstance(layer.module, nn.Conv2d) else scales)).to(x.dtype)

    def sum_of_squares(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """Of the algorithm's own ΔW, before its columns are scaled."""
        return self._algorithm.sum_of_squares(layer, weights)

    def exported(self, layer: Layer, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The algorithm's tensors and the lengths."""
        own = {suffix: each for suffix, each in weights.items() if suffix != SCALE}
        return {**self._algorithm.exported(layer, own), SCALE: weights[SCALE]}

    def imported(self, layer: Layer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `exported`."""
        own = {suffix: each for suffix, each in tensors.items() if suffix != SCALE}
        return {**self._algorithm.imported(layer, own), SCALE: tensors[SCALE]}

    def _scales(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """m / ‖W + ΔW‖ for each input, fp32 [in]."""
        cross, squares = self._moments.column_moments(layer, weights)
        # a column of zeros has a length without a gradient: kept from 0, its gradient is 0 instead of nan
        length = (self._base_squares(layer.module) + 2 * cross + squares).clamp(min=1e-30).sqrt()
        return weights[SCALE].flatten() / (length + _EPS)

    def _base_squares(self, module: Adaptable) -> Tensor:
        """‖W‖² of each column, fp32 [in]: worked out once, as W stays."""
        if module not in self._squares:
            # previews run in inference mode, whose tensors autograd refuses
            with torch.inference_mode(False), torch.no_grad():
                weight = module.weight.detach().clone() if module.weight.is_inference() else module.weight.detach()
                self._squares[module] = weight.float().square().sum((0, *range(2, weight.ndim)))
        return self._squares[module]


def _columns(module: Adaptable) -> tuple[int, ...]:
    return (1, module.weight.shape[1], *(1,) * (module.weight.ndim - 2))
