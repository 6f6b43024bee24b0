"""What an adapter algorithm has to say for itself; `ALGORITHMS` holds every one, a file each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from ..registry import Registry
from .targets import Adaptable

SEED_BITS = (1 << 63) - 1


@dataclass(frozen=True)
class Layer:
    """A base layer and the size of the adapter on it. rank ≥ 1; alpha > 0, as loaders divide it by the rank.

    name: canonical, e.g. "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"."""

    module: Adaptable
    rank: int
    alpha: float
    name: str = ""

    @property
    def scale(self) -> float:
        """Strength of the adapter: alpha / rank."""
        return self.alpha / self.rank


class Algorithm(Protocol):
    """One way of changing a layer's weight W into W + ΔW with few parameters.

    Tensors are named by their suffix in LoRA files ("lora_down.weight"). An implementation is built from the
    NetworkConfig, from which it takes its options; `BaseAlgorithm` has what most of them say alike."""

    suffixes: tuple[str, ...]  # every trainable tensor that it may name; tells its files from others'
    precise: tuple[str, ...]  # those of them that stay fp32 in forward passes and files
    multiplied: tuple[str, ...]  # those whose product is ΔW, so that scale_weight_norms can shorten it; else none
    reaches_matrices: bool  # whether it adapts attention and feed-forward layers
    reaches_convolutions: bool  # whether it also adapts resnets, downsamplers and upsamplers
    reaches_norms: bool  # whether it also adapts the LayerNorms and GroupNorms of the same blocks
    usual_preset: str  # the preset of its usual layers, where the three above do not say it

    def size(self, module: Adaptable) -> tuple[int, float]:
        """(rank, alpha) for this layer; alpha as the file says it."""
        ...

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """The trainable tensors at the start, fp32 on the CPU, with ΔW = 0; random values from `generator` only."""
        ...

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """What the file says besides the trainable tensors, e.g. {"alpha": …}."""
        ...

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """ΔW, shaped like the layer's weight, in the dtype of `weights`."""
        ...

    def delta_bias(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor | None:
        """Δbias, shaped like the layer's bias, or None where it stays."""
        ...

    def changes_input(self, layer: Layer) -> bool:
        """Whether `input` has a say in this layer."""
        ...

    def changes_output(self, layer: Layer) -> bool:
        """Whether `forward` has a say in this layer."""
        ...

    def input(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, seed: int | None) -> Tensor:
        """What the layer, and `forward`, are given for x; in x's dtype."""
        ...

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """The output of the layer with W + ΔW, given its input x and its own output y; in y's dtype.

        Equals the layer with `delta` merged in, but for dropout. seed: all that is random here follows from it, so that
        a recomputed forward draws the same; None draws nothing (previews)."""
        ...

    def sum_of_squares(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """‖ΔW‖² over all elements, 0-dim on the device: what scale_weight_norms holds small."""
        ...

    def exported(self, layer: Layer, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors, by suffix, that say these trainable ones."""
        ...

    def imported(self, layer: Layer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The trainable tensors that a file's say: the inverse of `exported`. Raises RunError where there is none."""
        ...


class BaseAlgorithm:
    """What most algorithms say alike, so that each only says what it does differently."""

    suffixes: tuple[str, ...] = ()
    precise: tuple[str, ...] = ()
    multiplied: tuple[str, ...] = ()
    reaches_matrices: bool = True
    reaches_convolutions: bool = False
    reaches_norms: bool = False
    usual_preset: str = ""

    def __init__(self, config: NetworkConfig):
        """Takes rank, alpha and the dropouts. conv_rank and conv_alpha, left out, are rank and alpha, as in LyCORIS."""
        self.config = config
        self.dropout, self.rank_dropout = config.dropout, config.rank_dropout

    def size(self, module: Adaptable) -> tuple[int, float]:
        """conv_rank and conv_alpha on convolutions with a kernel; rank and alpha on Linear and 1×1 layers, as kohya."""
        rank, alpha = self.config.rank, self.config.alpha
        if has_kernel(module):
            rank = rank if self.config.conv_rank is None else self.config.conv_rank
            alpha = alpha if self.config.conv_alpha is None else self.config.conv_alpha
        return rank, filed_alpha(alpha, rank, self.config.rs_lora)

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """alpha as kohya saves it; loaders scale by alpha / rank."""
        return {"alpha": torch.tensor(float(layer.alpha))}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """Every algorithm's own."""
        raise NotImplementedError

    def delta_bias(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor | None:
        """The bias stays."""
        return None

    def changes_input(self, layer: Layer) -> bool:
        """The input stays."""
        return False

    def changes_output(self, layer: Layer) -> bool:
        """A layer is changed at its output, unless it is at its input."""
        return not self.changes_input(layer)

    def input(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, seed: int | None) -> Tensor:
        """x as it is."""
        return x

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y as it is, for algorithms that only change inputs."""
        return y

    def sum_of_squares(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """Of the ΔW that `delta` builds."""
        return self.delta(layer, weights).square().sum()

    def exported(self, layer: Layer, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What trains is what is saved."""
        return dict(weights)

    def imported(self, layer: Layer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is saved is what trains."""
        return dict(tensors)


ALGORITHMS: Registry[Callable[[NetworkConfig], Algorithm]] = Registry("adapter")


def filed_alpha(alpha: float, rank: int, rs_lora: bool = False) -> float:
    """alpha as files say it, which loaders divide by the rank: the rank where alpha is 0, as in kohya; under rs_lora
    times √rank, so that alpha / √rank comes out (Kalajdzievski 2023, arXiv:2312.03732; LyCORIS's files)."""
    return (alpha or float(rank)) * (math.sqrt(rank) if rs_lora else 1)


def has_kernel(module: nn.Module) -> bool:
    """Whether the layer is a convolution that looks at more than one pixel."""
    return isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)


def convolved(module: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """x convolved with another weight in the module's own way: stride, dilation, padding and padding mode; no bias."""
    # the plain class's, as hosts subclass Conv2d to cast their own weight
    return nn.Conv2d._conv_forward(module, x, weight, None)


def applied(module: Adaptable, x: Tensor, weight: Tensor) -> Tensor:
    """x through the layer with another weight and no bias."""
    return convolved(module, x, weight) if isinstance(module, nn.Conv2d) else nn.functional.linear(x, weight)


def scaled(weight: Tensor, scale: float) -> Tensor:
    """scale · weight, without a kernel where scale is 1: cheaper than scaling activations."""
    return weight if scale == 1 else weight * scale


def dropped(h: Tensor, share: float, seed: int | None) -> Tensor:
    """h with a share of its values set to 0 and the others divided by 1 - share; the mask follows from the seed."""
    return h if share == 0 or seed is None else h * _mask(h, h.shape, share, seed)


def with_dropped_ranks(h: Tensor, share: float, seed: int | None, channels_last: bool) -> Tensor:
    """h with a share of its channels set to 0 in each sample and the others divided by 1 - share, as kohya's
    rank_dropout.

    h: [B, …, channels] if channels_last, else [B, channels, …]; its first axis is the sample."""
    if share == 0 or seed is None:
        return h
    ones = (1,) * (h.ndim - 2)
    shape = (h.shape[0], *ones, h.shape[-1]) if channels_last else (h.shape[0], h.shape[1], *ones)
    return h * _mask(h, shape, share, varied(seed, 1))


def row_mask(rows: int, like: Tensor, share: float, seed: int | None) -> Tensor | None:
    """[rows]: 0 for a share of a layer's outputs and 1 / (1 - share) for the others, where LyCORIS's rank_dropout drops
    rows of ΔW; None where nothing is dropped."""
    return None if share == 0 or seed is None else _mask(like, (rows,), share, varied(seed, 1))


def varied(seed: int, turn: int) -> int:
    """Another seed for another draw of the same step and layer."""
    mixed = (seed + turn * 0x9E3779B97F4A7C15) & ((1 << 64) - 1)  # splitmix64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & ((1 << 64) - 1)
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & ((1 << 64) - 1)
    return (mixed ^ (mixed >> 31)) & SEED_BITS


def drawn_share(seed: int, turn: int) -> float:
    """A number in [0, 1) that follows from the seed, drawn on the host."""
    return (varied(seed, turn) >> 10) / (1 << 53)


def _mask(like: Tensor, shape: tuple[int, ...], share: float, seed: int) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(seed)
    keep = torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - share, generator=generator)
    return keep.div_(1 - share)
