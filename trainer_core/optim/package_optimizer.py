"""Any torch.optim.Optimizer over the flat buffer: slower than a flat one, and just as resumable."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, RunError
from .flat import FlatBuffer, Group, Place
from .scalars import as_scalar

_USUAL_STATES = 2  # tensors like the parameter that most optimizers keep, made in their first step
_MEMORY = "python"  # the entry of a state that holds all that is not a tensor, as JSON in bytes


class PackageOptimizer:
    """A package's optimizer, one step a call, over views of the buffer's parameters; frozen groups are left out.

    It does what the package does, syncs and launches included. Where it learns d, a step at factor 0 is none: packages
    divide by it. Schedule-free ones train at a point of their own and give the weights to use as `averaged()`.

    State: the package's tensors under `<parameter>.<name>` and `group<i>.<name>`, and all else as JSON in `python`, a
    uint8 tensor. Raises ConfigError for options that the package does not take."""

    def __init__(
        self,
        buffer: FlatBuffer,
        kind: type[torch.optim.Optimizer],
        options: Mapping[str, object],
        is_elementwise: bool = False,
    ):
        """is_elementwise: whether every element is moved by itself, so that a group can be one long tensor."""
        self.options = dict(options)
        self._buffer, self._kind = buffer, kind
        self._moving = [group for group in buffer.groups if group.lr > 0 and group.start < group.stop]
        if not self._moving:
            raise ConfigError("every learning rate is 0, so nothing would be trained; give at least one above 0")
        self._optimizer = self._built(is_elementwise)
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._addresses = [parameter.data_ptr() for parameter in self._parameters]
        self._has_stepped = False
        self._mode("train")

    @property
    def d(self) -> Tensor | None:
        """The learned distance of the first group, as a new 0-dim tensor; None where nothing is learned."""
        d = self._optimizer.param_groups[0].get("d")
        return None if d is None else as_scalar(d, self._buffer.device)

    def effective_lr(self, lr_factor: float) -> dict[str, Tensor | float]:
        """Each group's d · lr · lr_factor; without d where none is learned."""
        learned = {group.name: package["d"] for group, package in self._groups() if "d" in package}
        return {each.name: learned.get(each.name, 1.0) * (each.lr * lr_factor) for each in self._buffer.groups}

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Move once. Raises ConfigError where the package's first step fails."""
        if lr_factor == 0 and "d" in self._optimizer.param_groups[0]:
            return
        for group, package in self._groups():
            package["lr"] = group.lr * lr_factor
        if self._has_stepped:
            self._optimizer.step()
        else:
            self._first_step()

    @torch.no_grad()
    def averaged(self) -> Tensor | None:
        """A schedule-free optimizer's average of the parameters, [N]; what trains stays as it is, bit for bit."""
        if not self._is_schedule_free:
            return None
        trained = self._buffer.params.clone()
        self._mode("eval")
        average = self._buffer.params.clone()
        self._mode("train")
        self._buffer.params.copy_(trained)  # the way there and back is not exact
        return average

    def state_dict(self) -> dict[str, Tensor]:
        """The live state: save or clone it before the next step."""
        tensors: dict[str, Tensor] = {"layout": self._buffer.layout}
        values = {name: _put_apart(name, value, tensors, self._buffer.device) for name, value in self._entries()}
        written = json.dumps({"class": self._kind.__qualname__, "values": values}).encode()
        return {**_without_shared_storage(tensors), _MEMORY: torch.frombuffer(bytearray(written), dtype=torch.uint8)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a saved state in. Raises RunError if it is another network's or another optimizer's."""
        memory = json.loads(bytes(state[_MEMORY].cpu().numpy().tobytes())) if _MEMORY in state else {}
        if memory.get("class") != self._kind.__qualname__:
            raise RunError(f"the saved optimizer state is not {self._kind.__qualname__}'s: it is another optimizer's")
        if int(state["layout"]) != int(self._buffer.layout):
            raise RunError(
                "the saved optimizer state belongs to another network; resume with the network it was saved from"
            )
        self._optimizer.state.clear()
        for name, value in memory["values"].items():
            self._put(name, _put_together(value, state, self._buffer.device))

    def awaited_bytes(self) -> int:
        """About what the first step will add to the state: most packages make theirs only then. 0 afterwards."""
        if self._optimizer.state:
            return 0
        return _USUAL_STATES * sum(parameter.nbytes for parameter in self._parameters)

    def to_package_state(self) -> dict[str, Any]:
        """The package's own `state_dict()`; it knows the moving groups only."""
        return copy.deepcopy(self._optimizer.state_dict())

    def from_package_state(self, state: Mapping[str, Any]) -> None:
        """Take over the package's `state_dict()`. Raises RunError if the parameters do not match."""
        try:
            self._optimizer.load_state_dict(copy.deepcopy(dict(state)))
        except ValueError as error:
            raise RunError(f"the optimizer state belongs to another network: {error}") from None

    def _built(self, is_elementwise: bool) -> torch.optim.Optimizer:
        groups = [
            {
                "params": [
                    self._view(place) for place in ([group] if is_elementwise else self._buffer.places_of(group))
                ],
                "lr": group.lr,
            }
            for group in self._moving
        ]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # some print
                return self._kind(groups, lr=max(group.lr for group in self._moving), **self.options)  # type: ignore[call-arg]
        except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
            raise ConfigError(f"{self._kind.__qualname__} does not take these optimizer_args: {error}") from None

    def _view(self, place: Place | Group) -> nn.Parameter:
        shape = place.shape if isinstance(place, Place) else (-1,)
        parameter = nn.Parameter(self._buffer.params[place.start : place.stop].view(shape))
        parameter.grad = self._buffer.grads[place.start : place.stop].view(shape)
        return parameter

    def _groups(self) -> Iterator[tuple[Group, dict[str, Any]]]:
        return zip(self._moving, self._optimizer.param_groups, strict=True)

    def _first_step(self) -> None:
        try:
            self._optimizer.step()
        except torch.cuda.OutOfMemoryError:  # torch.OutOfMemoryError is newer than 2.1
            raise
        except (RuntimeError, TypeError, ArithmeticError) as error:
            raise ConfigError(f"{self._kind.__qualname__} cannot be used here, its first step fails: {error}") from None
        if self._addresses != [parameter.data_ptr() for parameter in self._parameters]:
            raise ConfigError(
                f"{self._kind.__qualname__} puts new tensors in its parameters' place; choose another one"
            )
        self._has_stepped = True

    @property
    def _is_schedule_free(self) -> bool:
        return callable(getattr(self._optimizer, "train", None)) and callable(getattr(self._optimizer, "eval", None))

    @torch.no_grad()
    def _mode(self, name: str) -> None:
        if self._is_schedule_free:
            getattr(self._optimizer, name)()

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """Everything that the next step may depend on, by name; functions and the like are as they were built."""
        for index, parameter in enumerate(self._parameters):
            yield from ((f"{index}.{key}", value) for key, value in self._optimizer.state.get(parameter, {}).items())
        for index, group in enumerate(self._optimizer.param_groups):
            plain = {key: value for key, value in group.items() if key != "params" and _is_plain(value)}
            yield from ((f"group{index}.{key}", value) for key, value in plain.items())
        counters = {key: value for key, value in vars(self._optimizer).items() if isinstance(value, (int, float))}
        yield from ((f"self.{key}", value) for key, value in counters.items())

    def _put(self, name: str, value: Any) -> None:
        owner, _, key = name.partition(".")
        if owner == "self":
            setattr(self._optimizer, key, value)
        elif owner.startswith("group"):
            self._optimizer.param_groups[int(owner[len("group") :])][key] = value
        else:
            self._optimizer.state[self._parameters[int(owner)]][key] = value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (Tensor, bool, int, float, str))


def _put_apart(name: str, value: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    """The value as JSON, its tensors put into `tensors` under the name and their place in it."""
    if isinstance(value, Tensor):
        tensors[name] = value
        # what lies beside the parameters follows them to any device; torch keeps step counters on the CPU
        return {"tensor" if value.device == device else "cpu": name}
    if isinstance(value, dict):
        return {"dict": {key: _put_apart(f"{name}.{key}", each, tensors, device) for key, each in value.items()}}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_put_apart(f"{name}.{index}", each, tensors, device) for index, each in enumerate(value)]}
    return value


def _put_together(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    """The inverse of `_put_apart`, with copies of the tensors."""
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind in ("tensor", "cpu"):
        return tensors[inside].to(device if kind == "tensor" else "cpu", copy=True)
    if kind == "dict":
        return {key: _put_together(each, tensors, device) for key, each in inside.items()}
    return (tuple if kind == "tuple" else list)(_put_together(each, tensors, device) for each in inside)


def _without_shared_storage(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of those that share memory with an earlier one, as 8-bit optimizers' tables do; files cannot hold them."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if address in seen and address else tensor
        seen.add(address)
    return apart
