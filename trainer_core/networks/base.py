"""What an adapter algorithm has to say for itself; `ALGORITHMS` holds every one, a file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import NetworkConfig
from ..registry import Registry
from .targets import Adaptable


@dataclass(frozen=True)
class Layer:
    """A base layer and the size of the adapter on it. rank ≥ 1; alpha > 0."""

    module: Adaptable
    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        """Strength of the adapter: alpha / rank."""
        return self.alpha / self.rank


class Algorithm(Protocol):
    """One way of changing a layer's weight W into W + ΔW with few parameters.

    Tensors are named by their suffix in LoRA files ("lora_down.weight"), so what trains is what is saved. An
    implementation is built from the NetworkConfig, from which it takes its options."""

    suffixes: tuple[str, ...]  # every trainable tensor that it may name; tells its files from others'
    reaches_convolutions: bool  # whether it also adapts resnets, downsamplers and upsamplers

    def size(self, module: Adaptable) -> tuple[int, float]:
        """(rank, alpha) for this layer."""
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

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """The output of the layer with W + ΔW, given its input x and its own output y; in y's dtype.

        Equals the layer with `delta` merged in, but for dropout. seed: all that is random here follows from it, so that
        a recomputed forward draws the same; None draws nothing (previews)."""
        ...


ALGORITHMS: Registry[Callable[[NetworkConfig], Algorithm]] = Registry("adapter")


def dropped(h: Tensor, share: float, seed: int | None) -> Tensor:
    """h with a share of its values set to 0 and the others divided by 1 - share; the mask follows from the seed."""
    if share == 0 or seed is None:
        return h
    generator = torch.Generator(h.device).manual_seed(seed)
    keep = torch.empty_like(h, requires_grad=False).bernoulli_(1 - share, generator=generator)
    return h * keep.div_(1 - share)
