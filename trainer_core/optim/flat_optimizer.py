"""What the optimizers over a flat buffer have in common: the state around a step, how it is kept and handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .base import check_state
from .blocks import Blocks
from .flat import FlatBuffer, Group, Place
from .package_state import from_package, to_package
from .sample import Sample
from .scalars import as_scalar

Options = TypeVar("Options")

Numbers = Mapping[str, Tensor]
"""The 0-dim state by name, on the device: d where it is learned, k (the steps made), and what else a step needs."""

Step = Callable[[Options, Blocks, Numbers, float], Numbers]
"""(options, blocks, numbers, largest lr · the schedule's factor) → the numbers after the step; moves the blocks."""


@dataclass(frozen=True)
class Form:
    """What an optimizer keeps between steps, under its package's names.

    streams: tensors laid out like the buffer, zero at first. numbers: 0-dim tensors beside d and k, zero at first.
    sums: what a step adds up over all parameters. sampled: the streams that hold only every `stride`-th element.
    copied: the streams that begin as the parameters. filled: what else does not begin at zero."""

    streams: tuple[str, ...]
    sums: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    filled: Mapping[str, float] = field(default_factory=dict)
    sampled: tuple[str, ...] = ()
    stride: int = 1
    moves_at_zero: bool = False
    """Whether a step at rate 0 is one: its gradient enters the moments."""


@dataclass(frozen=True)
class PackageForm:
    """How the package keeps the same state, where it differs from ours.

    parameter: our tensors of one parameter → its entries. views: the same in the other direction, by the entries'
    names. group: a group's further values, from the group and the largest rate. counts: whether every parameter counts
    its steps."""

    parameter: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    views: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    group: Callable[[Group, float], dict[str, Any]] = lambda group, largest_lr: {"lr": group.lr}
    counts: bool = True


class FlatOptimizer(Generic[Options]):
    """An optimizer made of a step over the blocks of a flat buffer, and the state that the step reads and writes.

    Groups may differ in rate. Where d is learned, a relative rate r = lr of the group / largest lr means the optimizer
    on rescaled parameters, chosen such that the group's step is r times as long; decay takes the largest rate, as under
    dadaptation's `layer_scale`. The packages refuse unequal rates or take the first. A group with rate 0 stays as it
    is, decay included, and so does everything in a step at factor 0 where d is learned.

    State: each stream [N] fp32; each number 0-dim fp64 (fp32 on Apple's GPUs)."""

    def __init__(
        self,
        buffer: FlatBuffer,
        options: Options,
        form: Form,
        step: Step[Options],
        package: PackageForm | None = None,
        block_numel: int | None = None,
    ):
        """block_numel: elements per kernel; by default what suits the device."""
        self.options = options
        self._buffer, self._form, self._step, self._package = buffer, form, step, package or PackageForm()
        self._sample = Sample(buffer, form.stride)
        self._streams = {name: self._new_stream(name) for name in form.streams}
        learned = {"d": options.d0} if hasattr(options, "d0") else {}  # type: ignore[attr-defined]
        self._numbers = self._scalars(
            {**learned, **{name: form.filled.get(name, 0.0) for name in form.numbers}, "k": 0.0}
        )
        self._blocks = Blocks(buffer, self._streams, form.sums, self._sample, block_numel)

    @property
    def d(self) -> Tensor | None:
        """The learned distance: 0-dim on the device, never changed in place, never below d0; None if there is none."""
        return self._numbers.get("d")

    def effective_lr(self, lr_factor: float) -> dict[str, Tensor | float]:
        """Each group's d · lr · lr_factor, on the device where d is learned."""
        d = 1.0 if self.d is None else self.d
        return {group.name: d * (group.lr * lr_factor) for group in self._buffer.groups}

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Move once."""
        lr = self._blocks.lr * lr_factor
        if lr > 0 or self._form.moves_at_zero:
            self._numbers = self._step(self.options, self._blocks, self._numbers, lr)

    def averaged(self) -> None:
        """What trains is what is saved."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """The live state, flat: save or clone it before the next step."""
        return {**self._streams, **self._numbers, "layout": self._buffer.layout}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a saved state in. Raises RunError if it is another network's or another optimizer's."""
        check_state(self._buffer, self.state_dict(), state)
        for name, flat in self._streams.items():
            flat.copy_(state[name])
        self._numbers = self._scalars({name: state[name] for name in self._numbers})

    @torch.no_grad()
    def to_package_state(self) -> dict[str, Any]:
        """The state as the package's `state_dict()`; most packages themselves refuse to step with unequal rates."""
        numbers = {name: float(value) for name, value in self._numbers.items()}
        steps = int(numbers["k"])

        def group_values(group: Group) -> dict[str, Any]:
            ours = {**asdict(self.options), **numbers, "k": steps, "log_every": 0, "fsdp_in_use": False}  # type: ignore[call-overload]
            return {**ours, **self._package.group(group, self._blocks.lr)}

        def per_parameter(place: Place) -> dict[str, Any]:
            entries = self._package.parameter(self._views(place))
            counted = {"step": steps} if self._package.counts else {}
            return {**counted, **{name: value.clone() for name, value in entries.items()}}

        return to_package(self._buffer, group_values, per_parameter)

    @torch.no_grad()
    def from_package_state(self, state: Mapping[str, Any]) -> None:
        """Take over the package's `state_dict()`. Raises RunError if the parameters do not match."""
        from_package(self._buffer, state, lambda place: self._package.views(self._views(place)))
        first = state["param_groups"][0]
        self._numbers = self._scalars({name: first.get(name, 0.0) for name in self._numbers})

    def _views(self, place: Place) -> dict[str, Tensor]:
        return {name: self._sample.of(place, flat) for name, flat in self._streams.items()}

    def _new_stream(self, name: str) -> Tensor:
        params = self._buffer.params.detach()
        if name in self._form.copied:
            return self._sample.take(params) if name in self._form.sampled else params.clone()
        numel = self._sample.numel if name in self._form.sampled else self._buffer.numel
        return params.new_full((numel,), self._form.filled.get(name, 0.0))

    def _scalars(self, values: Mapping[str, Any]) -> Numbers:
        return {name: as_scalar(value, self._buffer.device) for name, value in values.items()}


def settled(numbers: Numbers, moves: Tensor, **new: Tensor) -> Numbers:
    """The numbers after a step: the new ones, one step more, if it `moves` (0-dim bool); else as they were.

    Packages return early while every gradient so far was zero; that would need the value on the host."""
    chosen = {name: torch.where(moves, value, numbers[name]) for name, value in new.items()}
    return {**numbers, **chosen, "k": numbers["k"] + moves}


def grown(d: Tensor, d_hat: Tensor, growth_rate: float) -> Tensor:
    """D-Adaptation's next d: the estimate, but never below d nor above d · growth_rate."""
    return torch.maximum(d, torch.minimum(d_hat, d * growth_rate))
