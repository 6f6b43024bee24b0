"""Diag-OFT: each group of a layer's outputs is rotated, their lengths and angles to each other stay.

Qiu et al. 2023, arXiv:2306.07280, with blocks and file as LyCORIS' `diag-oft`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import NetworkConfig
from ..errors import ConfigError
from .base import ALGORITHMS, BaseAlgorithm, Layer
from .channels import along_channels, channel_axis
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
        """Rᵀ · (y - bias) + bias: b multiplications per output, where the layer has as many as inputs. The bias is
        turned by itself, which spares a pass over y."""
        blocks, axis = weights[BLOCKS], channel_axis(layer.module)
        wide = y.to(torch.promote_types(y.dtype, blocks.dtype))
        turn = self._turn(layer, blocks).to(wide.dtype)
        last = wide.movedim(axis, -1)
        turned = _turned(turn, last).view(last.shape).movedim(-1, axis).contiguous()
        if layer.module.bias is not None:
            bias = layer.module.bias.to(wide.dtype)
            turned = turned + along_channels(layer.module, bias - _turned(turn, bias)[0])
        return turned.to(y.dtype)

    def _turn(self, layer: Layer, blocks: Tensor) -> Tensor:
        return rotation_less_identity(skew(blocks, self._limit(layer))).to(blocks.dtype)

    def _limit(self, layer: Layer) -> float:
        """LyCORIS measures the constraint per output."""
        return self.config.constraint * layer.module.weight.shape[0]


def _turned(turn: Tensor, h: Tensor) -> Tensor:
    """Rᵀ · h by groups: [..., outputs] → [n, outputs]; I · h is added within the product, for no pass of its own.

    turn: R - I, [blocks, b, b]."""
    groups = h.reshape(-1, *turn.shape[:2]).transpose(0, 1)
    return torch.baddbmm(groups, groups, turn).transpose(0, 1).flatten(1)


def two_factors(number: int, near: int) -> tuple[int, int]:
    """The number as small · large: by `near` where it divides the number, else by its largest divisor up to `near` that
    brings the two closest together (LyCORIS' `factorization`)."""
    if number % near == 0:
        return min(near, number // near), max(near, number // near)
    divisors = [each for each in range(1, min(near, number) + 1) if number % each == 0 and each * each <= number]
    return divisors[-1], number // divisors[-1]
