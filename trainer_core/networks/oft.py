"""Diag-OFT: each group of a layer's outputs is rotated, their lengths and angles to each other stay.

Qiu et al. 2023, arXiv:2306.07280, with blocks and file as LyCORIS' `diag-oft`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from ..errors import ConfigError
from .base import ALGORITHMS, BaseAlgorithm, Layer
from .channels import without_bias
from .rotation import BLOCKS, limited, rotation_less_identity, skew


@ALGORITHMS.register("diag-oft", "oft")
class DiagOFT(BaseAlgorithm):
    """W becomes Rᵀ · W with a block-diagonal rotation R; rank is the size of a block, or the nearest that fits.

    There is no alpha; `constraint` (COFT) limits how far a layer may rotate."""

    suffixes: tuple[str, ...] = (BLOCKS,)
    reaches_convolutions = True

    def __init__(self, config: NetworkConfig):
        """Takes rank, conv_rank and constraint. Raises ConfigError for rescaled, which ComfyUI would ignore."""
        super().__init__(config)
        if config.rescaled:
            raise ConfigError(
                '"network.rescaled" is lost when ComfyUI loads a diag-oft file; switch it off, or take algo "boft"'
            )

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros: [blocks, b, b]. Raises ConfigError where no block is larger than 1, which cannot rotate."""
        outputs = layer.module.weight.shape[0]
        size, count = two_factors(outputs, layer.rank)
        if size == 1:
            raise ConfigError(
                f"{layer.name}: rank {layer.rank} cuts its {outputs} outputs into single ones, which cannot rotate; "
                "give a rank that divides them"
            )
        return {BLOCKS: torch.zeros(count, size, size)}

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """alpha 0, which loaders take for "no constraint": the file's blocks are within it already."""
        return {"alpha": torch.tensor(0.0)}

    def exported(self, layer: Layer, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The blocks shrunk to the constraint, as ComfyUI and LyCORIS measure it differently."""
        return {BLOCKS: limited(weights[BLOCKS], self._limit(layer))}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """(Rᵀ - I) · W."""
        blocks = weights[BLOCKS]
        rows = layer.module.weight.to(blocks.dtype).unflatten(0, blocks.shape[:2])
        turned = torch.einsum("knm,kn...->km...", self._turn(layer, blocks), rows)
        return turned.flatten(0, 1)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y + (Rᵀ - I) · (y - bias): b multiplications per output, where the layer has as many as inputs."""
        blocks, is_conv = weights[BLOCKS], isinstance(layer.module, nn.Conv2d)
        groups = without_bias(layer.module, y).to(blocks.dtype).unflatten(1 if is_conv else -1, blocks.shape[:2])
        turn = self._turn(layer, blocks)
        if is_conv:
            return (y + torch.einsum("knm,bkn...->bkm...", turn, groups).flatten(1, 2)).to(y.dtype)
        return (y + torch.einsum("knm,...kn->...km", turn, groups).flatten(-2)).to(y.dtype)

    def _turn(self, layer: Layer, blocks: Tensor) -> Tensor:
        return rotation_less_identity(skew(blocks, self._limit(layer))).to(blocks.dtype)

    def _limit(self, layer: Layer) -> float:
        """LyCORIS measures the constraint per output."""
        return self.config.constraint * layer.module.weight.shape[0]


def two_factors(number: int, near: int) -> tuple[int, int]:
    """The number as small · large: by `near` where it divides the number, else by its largest divisor up to `near` that
    brings the two closest together (LyCORIS' `factorization`)."""
    if number % near == 0:
        return min(near, number // near), max(near, number // near)
    divisors = [each for each in range(1, min(near, number) + 1) if number % each == 0 and each * each <= number]
    return divisors[-1], number // divisors[-1]
