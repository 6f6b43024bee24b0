"""BOFT: rotations of few outputs in several rounds, shuffled like a butterfly so that each reaches every other.

Liu et al. 2023, arXiv:2311.06243, with blocks and file as LyCORIS' `boft`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ConfigError
from .base import ALGORITHMS, BaseAlgorithm, Layer
from .channels import channel_axis, without_bias
from .rotation import BLOCKS, limited, rotation_less_identity, skew

RESCALE = "rescale"


@ALGORITHMS.register("boft")
class BOFT(BaseAlgorithm):
    """W becomes R_m · … · R₁ · W, each R block-diagonal in another order; rank is the largest size of a block.

    There is no alpha. `constraint` limits how far a layer may rotate; `rescaled` learns the outputs' lengths too."""

    suffixes: tuple[str, ...] = (BLOCKS, RESCALE)
    precise: tuple[str, ...] = (RESCALE,)
    reaches_convolutions = True

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros: blocks [rounds, outputs / b, b, b]; rescale, less the 1 that the file has, [outputs, 1, …].

        Raises ConfigError where no block size up to the rank fits the layer's outputs."""
        outputs, *others = layer.module.weight.shape
        rounds, count, size = butterfly(outputs, layer.rank, layer.name)
        start = {BLOCKS: torch.zeros(rounds, count, size, size)}
        return {**start, RESCALE: torch.zeros(outputs, *[1] * len(others))} if self.config.rescaled else start

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """alpha 0, which loaders take for "no constraint": the file's blocks are within it already."""
        return {"alpha": torch.tensor(0.0)}

    def exported(self, layer: Layer, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The blocks shrunk to the constraint, as ComfyUI and LyCORIS measure it differently; rescale as a factor."""
        blocks = {BLOCKS: limited(weights[BLOCKS], self._limit(layer))}
        return {**blocks, RESCALE: weights[RESCALE] + 1} if RESCALE in weights else blocks

    def imported(self, layer: Layer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The blocks as they are; rescale less 1."""
        return {name: each.float() - 1 if name == RESCALE else each for name, each in tensors.items()}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """R_m · … · R₁ · W - W, its rows then rescaled."""
        weight = layer.module.weight.to(weights[BLOCKS].dtype)
        return self._change(layer, weights, weight.movedim(0, -1)).movedim(-1, 0)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """The same on y - bias: rounds · b multiplications per output, where the layer has as many as inputs."""
        axis = channel_axis(layer.module)
        plain = without_bias(layer.module, y).to(weights[BLOCKS].dtype)
        return (y + self._change(layer, weights, plain.movedim(axis, -1)).movedim(-1, axis)).to(y.dtype)

    def _change(self, layer: Layer, weights: Mapping[str, Tensor], h: Tensor) -> Tensor:
        """What is added to h [..., outputs]; kept apart from h all the way, so that small changes survive bf16."""
        blocks = weights[BLOCKS]
        turns = rotation_less_identity(skew(blocks, self._limit(layer))).to(blocks.dtype)
        change = torch.zeros_like(h)
        for level, turn in enumerate(turns):
            change = change + _turned(h + change, turn, stride=2**level * (turn.shape[-1] // 2))
        if RESCALE in weights:
            change = change + weights[RESCALE].flatten().to(h.dtype) * (h + change)
        return change

    def _limit(self, layer: Layer) -> float:
        """LyCORIS measures the constraint per output."""
        return self.config.constraint * layer.module.weight.shape[0]


def butterfly(outputs: int, rank: int, name: str = "the layer") -> tuple[int, int, int]:
    """(rounds, blocks per round, block size): the largest even size up to `rank` that leaves a power of two of blocks
    (LyCORIS' `power2factorization`). Raises ConfigError, naming the smallest rank that works, where there is none."""
    fitting = [size for size in range(2, outputs + 1, 2) if outputs % size == 0 and _is_power_of_two(outputs // size)]
    if not fitting:
        raise ConfigError(f"{name} has an odd number of outputs ({outputs}), which boft cannot pair; exclude it")
    if rank < fitting[0]:
        raise ConfigError(
            f"boft cannot cut the {outputs} outputs of {name} into blocks of at most {rank}; "
            f"give a rank of {fitting[0]} or more"
        )
    size = max(each for each in fitting if each <= rank)
    return (outputs // size).bit_length(), outputs // size, size


def _turned(h: Tensor, turn: Tensor, stride: int) -> Tensor:
    """(R - I) · h with outputs gathered from `stride` apart into one block, and put back where they were."""
    count, size, _ = turn.shape
    gathered = h.unflatten(-1, (-1, 2, stride)).transpose(-2, -1).reshape(*h.shape[:-1], count, size)
    turned = torch.einsum("kij,...kj->...ki", turn, gathered)
    return turned.reshape(*h.shape[:-1], -1, stride, 2).transpose(-2, -1).reshape(h.shape)


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
