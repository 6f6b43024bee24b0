"""One buffer for all adapter parameters, so that a step takes a few kernels instead of a few per tensor."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError

# 64 bytes, and 32 in a bf16 copy of the buffer: cuBLAS takes its fast paths only from operands aligned to 16 bytes.
ALIGNMENT = 16
# CPU reductions add up in fp32 lanes; rows keep the sums short, so that the norm stays exact to 1e-6.
NORM_ROW = 1024


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate, as a network hands them over: `ParamGroup("unet", {...}, 1e-4)`."""

    name: str
    parameters: Mapping[str, nn.Parameter]
    lr: float


@dataclass(frozen=True)
class Group:
    """A group's stretch `[start, stop)` of the buffer, in elements, and its base learning rate (0 freezes)."""

    name: str
    start: int
    stop: int
    lr: float


@dataclass(frozen=True)
class Place:
    """Where one parameter lies in the buffer: elements `[start, stop)`, seen as `shape`."""

    group: str
    name: str
    start: int
    stop: int
    shape: tuple[int, ...]

    def of(self, flat: Tensor) -> Tensor:
        """This parameter's part of any tensor laid out like the buffer, as a view of the parameter's shape."""
        return flat[self.start : self.stop].view(self.shape)


class FlatBuffer:
    """All parameters in one fp32 tensor `params`, all gradients in `grads`; each `.data` and `.grad` is a view of them.

    params, grads: [N] fp32 on the parameters' device; N counts a few zeros that align every tensor and stay zero under
    every optimizer here. Autograd adds into the gradient views, so gradients are zeroed in place (`zero_grads`) and
    never set to None. No method of a training step waits for the device.

    Raises ValueError for parameters that are not fp32, not on one device, listed twice or not there at all, and
    ConfigError for a learning rate that is negative or not a number."""

    params: Tensor
    grads: Tensor
    groups: tuple[Group, ...]
    places: tuple[Place, ...]

    def __init__(self, groups: Sequence[ParamGroup]):
        self._parameters = _checked_parameters(groups)
        self.groups, self.places = _laid_out(groups)
        padded = _aligned(self.groups[-1].stop, NORM_ROW)
        self._padded_params = torch.zeros(padded, device=self._parameters[0].device)
        self._padded_grads = torch.zeros_like(self._padded_params)
        self.params = self._padded_params[: self.groups[-1].stop]
        self.grads = self._padded_grads[: self.groups[-1].stop]
        self._bind()

    @property
    def device(self) -> torch.device:
        """The device of every parameter."""
        return self.params.device

    @property
    def numel(self) -> int:
        """Elements in the buffer, alignment included."""
        return self.params.numel()

    @property
    def layout(self) -> Tensor:
        """A fingerprint of names, shapes and places, int64 on the CPU: saved with a flat state and checked on load."""
        described = repr([(p.group, p.name, p.start, tuple(p.shape)) for p in self.places])
        digest = hashlib.sha256(described.encode()).digest()
        return torch.tensor(int.from_bytes(digest[:8], "little", signed=True))

    def places_of(self, group: Group) -> tuple[Place, ...]:
        """The parameters of one group, in buffer order."""
        return tuple(place for place in self.places if place.group == group.name)

    def named(self, flat: Tensor) -> Iterator[tuple[Place, Tensor]]:
        """Each parameter's place, with its view of a tensor laid out like the buffer."""
        return ((place, place.of(flat)) for place in self.places)

    def is_bound(self) -> bool:
        """Whether every parameter and gradient still is a view; `module.to(...)` and `zero_grad()` cut them loose."""
        return all(
            parameter.data_ptr() == place.of(self.params).data_ptr()
            and parameter.grad is not None
            and parameter.grad.data_ptr() == place.of(self.grads).data_ptr()
            for place, parameter in zip(self.places, self._parameters, strict=True)
        )

    def zero_grads(self) -> None:
        """Start a new accumulation; one kernel."""
        self.grads.zero_()

    @torch.no_grad()
    def grad_norm(self) -> Tensor:
        """The 2-norm of all gradients together, 0-dim fp32 on the device; inf or nan when a gradient is."""
        if self.device.type == "cpu":
            return torch.linalg.vector_norm(torch.linalg.vector_norm(self._padded_grads.view(-1, NORM_ROW), dim=1))
        return torch.linalg.vector_norm(self.grads)

    @torch.no_grad()
    def clip_grad_norm(self, max_norm: float, norm: Tensor | None = None) -> Tensor:
        """Scale the gradients down to `max_norm` where they are longer; gives the norm before, as 0-dim fp32.

        norm: from `grad_norm`, to save measuring again. As torch.nn.utils.clip_grad_norm_. A gradient that is not
        finite stays so; `zero_nonfinite_grads(norm)`, before or after, takes care of it."""
        before: Tensor = self.grad_norm() if norm is None else norm
        self.grads.mul_((max_norm / (before + 1e-6)).clamp(max=1.0))
        return before

    @torch.no_grad()
    def zero_nonfinite_grads(self, norm: Tensor | None = None) -> Tensor:
        """Replace the whole gradient by zeros if any of it is inf or nan; gives a 0-dim bool: whether it was finite.

        norm: from `grad_norm`, to save measuring again. One fp16 overflow costs one step instead of the run. Finite
        gradients whose squares overflow fp32 count as not finite."""
        finite = torch.isfinite(self.grad_norm() if norm is None else norm)
        # torch.where on the bits: -1 keeps them all, 0 none. On a CPU this is four times as fast as where on floats.
        self.grads.view(torch.int32).bitwise_and_(-finite.to(torch.int32))
        return finite

    @torch.no_grad()
    def _bind(self) -> None:
        for place, parameter in zip(self.places, self._parameters, strict=True):
            view = place.of(self.params)
            view.copy_(parameter)
            gradient = place.of(self.grads)
            if parameter.grad is not None:
                gradient.copy_(parameter.grad)
            parameter.data = view
            parameter.grad = gradient


def _checked_parameters(groups: Sequence[ParamGroup]) -> list[nn.Parameter]:
    parameters = [parameter for group in groups for parameter in group.parameters.values()]
    if not parameters:
        raise ValueError("a FlatBuffer needs at least one parameter")
    if len({group.name for group in groups}) < len(groups):
        raise ValueError(f"group names must differ: {[group.name for group in groups]}")
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        raise ValueError("a parameter is listed twice")
    if {parameter.dtype for parameter in parameters} != {torch.float32}:
        raise ValueError(f"adapter masters are fp32, not {sorted({str(p.dtype) for p in parameters})}")
    if len({parameter.device for parameter in parameters}) > 1:
        raise ValueError(f"parameters lie on several devices: {sorted({str(p.device) for p in parameters})}")
    for group in groups:
        if not (math.isfinite(group.lr) and group.lr >= 0):
            raise ConfigError(f'the learning rate of "{group.name}" is {group.lr}; give 0 (frozen) or more')
    return parameters


def _laid_out(groups: Sequence[ParamGroup]) -> tuple[tuple[Group, ...], tuple[Place, ...]]:
    spans: list[Group] = []
    places: list[Place] = []
    end = 0
    for group in groups:
        start = end
        for name, parameter in group.parameters.items():
            places.append(Place(group.name, name, end, end + parameter.numel(), tuple(parameter.shape)))
            end += _aligned(parameter.numel(), ALIGNMENT)
        spans.append(Group(group.name, start, end, float(group.lr)))
    return tuple(spans), tuple(places)


def _aligned(count: int, to: int) -> int:
    return -(-count // to) * to
