"""BOFT: rotations of few outputs in several rounds, shuffled like a butterfly so that each reaches every other.

Liu et al. 2023, arXiv:2311.06243, with blocks and file as LyCORIS' `boft`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import ConfigError
from .base import ALGORITHMS, BaseAlgorithm, Layer
from .channels import along_channels, channel_axis
from .rotation import BLOCKS, limited, rotation_less_identity, skew

RESCALE = "rescale"
_WIDEST = 96


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
        """R_m · … · R₁ · W - W, its rows then rescaled; kept apart from W, so that small changes survive."""
        weight = layer.module.weight.to(weights[BLOCKS].dtype)
        rows = weight.flatten(1)
        change = torch.zeros_like(rows)
        for rounds, turn in self._turns(layer, weights, rows.dtype):
            change = change + scattered(turn @ gathered(rows + change, rounds, turn.shape[-1]), rounds)
        if RESCALE in weights:
            change = change + weights[RESCALE].view(-1, 1).to(rows.dtype) * (rows + change)
        return change.view(weight.shape)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """R_m · … · R₁ · (y - bias) + bias: rounds · b multiplications per output, where the layer has as many as
        inputs. The bias is turned by itself, which spares a pass over y."""
        axis = channel_axis(layer.module)
        wide = y.to(torch.promote_types(y.dtype, weights[BLOCKS].dtype))
        turns = self._turns(layer, weights, wide.dtype)
        rows = wide.movedim(axis, 0)
        turned = self._turned(weights, turns, rows.flatten(1)).view(rows.shape).movedim(0, axis).contiguous()
        if layer.module.bias is not None:
            bias = layer.module.bias.to(wide.dtype)
            turned = turned + along_channels(layer.module, bias - self._turned(weights, turns, bias[:, None])[:, 0])
        return turned.to(y.dtype)

    def _turns(self, layer: Layer, weights: Mapping[str, Tensor], dtype: torch.dtype) -> list[tuple[range, Tensor]]:
        """R - I of each pass, with the rounds that it makes as one."""
        turns = by_halves(rotation_less_identity(skew(weights[BLOCKS], self._limit(layer))))
        return [(rounds, as_one_round(turns, rounds).to(dtype)) for rounds in passes(len(turns), turns.shape[-1])]

    def _turned(self, weights: Mapping[str, Tensor], turns: list[tuple[range, Tensor]], h: Tensor) -> Tensor:
        """h [outputs, n], rotated and rescaled; I · h is added within each product, which costs no pass of its own."""
        for rounds, turn in turns:
            groups = gathered(h, rounds, turn.shape[-1])
            h = scattered(torch.baddbmm(groups, turn, groups), rounds)
        return h + weights[RESCALE].view(-1, 1).to(h.dtype) * h if RESCALE in weights else h

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


def passes(rounds: int, size: int) -> list[range]:
    """The rounds cut into runs of about equal length, each of which is done as one.

    A run of p rounds is a rotation of groups of size/2 · 2^p outputs; up to _WIDEST, the products that it takes more
    cost less than to read and write all activations for each round."""
    longest = max(1, (2 * _WIDEST // size).bit_length() - 1)
    count = -(-rounds // longest)
    edges = [rounds * each // count for each in range(count + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def by_halves(turns: Tensor) -> Tensor:
    """LyCORIS' blocks hold their two halves of outputs by turns; the same with one half after the other."""
    half = turns.shape[-1] // 2
    return turns.unflatten(-1, (half, 2)).unflatten(-3, (half, 2)).permute(0, 1, 3, 2, 5, 4).flatten(4).flatten(2, 3)


def as_one_round(turns: Tensor, rounds: range) -> Tensor:
    """R - I of the rotation that all these rounds make together: [groups, g, g].

    turns: R - I of every round, [rounds, blocks, b, b], as `by_halves` gives them."""
    if len(rounds) == 1:
        return turns[rounds.start]
    count, size = turns.shape[1:3]
    width = size // 2 * 2 ** len(rounds)
    identity = torch.eye(width, dtype=turns.dtype, device=turns.device).expand(count * size // width, -1, -1)
    h = scattered(identity, rounds)
    change = torch.zeros_like(h)
    for level in rounds:
        alone = range(level, level + 1)
        change = change + scattered(turns[level] @ gathered(h + change, alone, size), alone)
    return gathered(change, rounds, width)


def gathered(h: Tensor, rounds: range, width: int) -> Tensor:
    """The rows that these rounds mix, side by side: [outputs, n] → [groups, width, n].

    A row's number in binary, over half a block: round l mixes rows that differ in bit l."""
    runs = h.view(-1, 2 ** len(rounds), 2**rounds.start, width >> len(rounds), h.shape[-1])
    return runs.transpose(1, 2).reshape(-1, width, h.shape[-1])


def scattered(groups: Tensor, rounds: range) -> Tensor:
    """The inverse of `gathered`."""
    _, width, n = groups.shape
    runs = groups.view(-1, 2**rounds.start, 2 ** len(rounds), width >> len(rounds), n)
    return runs.transpose(1, 2).reshape(-1, n)


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
