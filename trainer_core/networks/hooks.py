"""How adapters sit on a model: as forward hooks that are put on and taken off, random only by step and layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from .adapter import Adapter
from .base import SEED_BITS, drawn_share

_MODULE_DROPOUT = 2  # which of a layer's draws it is; see base.varied


class Hooks:
    """The forward hooks of a network's adapters. What they draw follows from (`step_seed`, layer) alone."""

    def __init__(self, adapters: Sequence[Adapter], module_dropout: float):
        """module_dropout: the share of layers that are left as they are in a step, 0 to below 1."""
        self._adapters, self._module_dropout = adapters, module_dropout
        self.are_on = False
        self.step_seed = 0
        self._are_random = True

    @contextmanager
    def on(self) -> Iterator[None]:
        """With the hooks on the layers. Raises RuntimeError if they are on already."""
        if self.are_on:
            raise RuntimeError("this network is attached already")
        with ExitStack() as hooks:
            self.are_on = True
            hooks.callback(setattr, self, "are_on", False)
            for adapter in self._adapters:
                algorithm, module = adapter.algorithm, adapter.layer.module
                if algorithm.changes_input(adapter.layer):
                    hooks.callback(module.register_forward_pre_hook(self._on_input(adapter)).remove)
                if algorithm.changes_output(adapter.layer):
                    hooks.callback(module.register_forward_hook(self._on_output(adapter)).remove)
            yield

    @contextmanager
    def without_randomness(self) -> Iterator[None]:
        """With hooks that drop nothing."""
        before, self._are_random = self._are_random, False
        try:
            yield
        finally:
            self._are_random = before

    def _on_output(self, adapter: Adapter) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        forward, layer, active = adapter.algorithm.forward, adapter.layer, adapter.active

        def add_adapter(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seed = self._seed(adapter)
            return output if self._is_dropped(seed) else forward(layer, active, inputs[0], output, seed)

        return add_adapter

    def _on_input(self, adapter: Adapter) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        change, layer, active = adapter.algorithm.input, adapter.layer, adapter.active

        def change_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seed = self._seed(adapter)
            return inputs if self._is_dropped(seed) else (change(layer, active, inputs[0], seed), *inputs[1:])

        return change_input

    def _seed(self, adapter: Adapter) -> int | None:
        return (self.step_seed * 0x9E3779B97F4A7C15 + adapter.seed) & SEED_BITS if self._are_random else None

    def _is_dropped(self, seed: int | None) -> bool:
        """Whether module_dropout leaves this layer as it is in this step: decided on the host, for no device waits."""
        return (
            bool(self._module_dropout)
            and seed is not None
            and drawn_share(seed, _MODULE_DROPOUT) < self._module_dropout
        )
