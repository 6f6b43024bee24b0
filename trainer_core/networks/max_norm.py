"""scale_weight_norms: no layer's ΔW grows longer than this, so that none outshouts the others (kohya's max norm)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .adapter import Adapter
from .base import Algorithm, Layer
from .network import Network

_ELEMENTS_AT_ONCE = 1 << 24  # of ΔW, where an algorithm has to build it to measure it


class MaxNorm:
    """Shortens every ΔW = product of an adapter's tensors with ‖ΔW‖ > max_norm to max_norm, all tensors by one root.

    As kohya's `apply_max_norm_regularization`, with layers of one shape measured together and no wait for the device.
    Adapters whose ΔW is no such product ((IA)³, OFT, full …) are left alone, as in LyCORIS."""

    def __init__(self, network: Network, max_norm: float):
        """max_norm: above 0; kohya advises 1."""
        self._max_norm = max_norm
        alike: dict[tuple, list[Adapter]] = {}
        for adapter in network.adapters:
            if adapter.algorithm.multiplied:
                alike.setdefault(_kind(adapter), []).append(adapter)
        self._batches = [_batch(adapters) for adapters in alike.values()]

    @torch.no_grad()
    def apply(self) -> None:
        """Shorten what is too long, in place; once after an optimizer step."""
        for batch in self._batches:
            norms = batch.norms().clamp(min=self._max_norm / 2)
            ratios = norms.clamp(max=self._max_norm) / norms
            roots = ratios.pow(1 / len(batch.parameters)).unbind()
            for tensors in batch.parameters.values():
                torch._foreach_mul_(tensors, roots)


@dataclass(frozen=True)
class _Batch:
    """Adapters that differ in their numbers only; parameters: suffix → one tensor for each adapter."""

    algorithm: Algorithm
    layer: Layer
    parameters: Mapping[str, list[Tensor]]

    def norms(self) -> Tensor:
        """‖ΔW‖ of each adapter."""
        stacked = {suffix: torch.stack(list(tensors)) for suffix, tensors in self.parameters.items()}
        at_once = max(1, _ELEMENTS_AT_ONCE // self.layer.module.weight.numel())

        def square(weights: dict[str, Tensor]) -> Tensor:
            return self.algorithm.sum_of_squares(self.layer, weights)

        return torch.func.vmap(square, chunk_size=at_once)(stacked).sqrt()


def _batch(adapters: list[Adapter]) -> _Batch:
    first = adapters[0]
    suffixes = [suffix for suffix in first.parameters if suffix in first.algorithm.multiplied]
    parameters: dict[str, list[Tensor]] = {name: [each.parameters[name] for each in adapters] for name in suffixes}
    return _Batch(first.algorithm, first.layer, parameters)


def _kind(adapter: Adapter) -> tuple:
    shapes = tuple((suffix, tuple(each.shape)) for suffix, each in adapter.parameters.items())
    layer = adapter.layer
    return id(adapter.algorithm), type(layer.module), tuple(layer.module.weight.shape), layer.rank, layer.alpha, shapes
