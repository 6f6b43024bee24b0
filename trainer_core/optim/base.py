"""What every optimizer over a flat buffer offers, where they register, and how one reads its options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from torch import Tensor

from ..errors import ConfigError, RunError
from ..registry import Registry
from ..settings import from_json
from .flat import FlatBuffer

Options = TypeVar("Options")

# Options of the packages that mean nothing to the flat form: the value that changes nothing, and why there is no other.
_WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "fsdp_in_use": (False, "adapters are never sharded"),
    "log_every": (0, "d is in the progress events"),
    "foreach": (None, "all parameters are one tensor"),
    "fused": (None, "it is fused wherever torch can"),
}


class Optimizer(Protocol):
    """Moves the parameters of a FlatBuffer along its gradients, without waiting for the device."""

    options: Any
    """The options as a frozen dataclass, defaults filled in; a package's as they were given."""

    @property
    def d(self) -> Tensor | None:
        """The learned distance, 0-dim on the device and never changed in place; None where nothing is learned."""
        ...

    def step(self, lr_factor: float) -> None:
        """Move once, every group's rate times `lr_factor` ≥ 0, the schedule's value. The caller zeroes gradients."""
        ...

    def effective_lr(self, lr_factor: float) -> dict[str, Tensor | float]:
        """Each group's d · lr · lr_factor, by name, on the device."""
        ...

    def averaged(self) -> Tensor | None:
        """The parameters to save and preview, [N], where they are not those that train; else None."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The live state as flat tensors: save or clone them before the next step."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a saved state in; the next steps equal those of an uninterrupted run bit for bit.

        Raises RunError if the state was saved for another network or another optimizer."""
        ...

    def to_package_state(self) -> dict[str, Any]:
        """The same state as the reference package's `state_dict()`, per parameter; waits for the device."""
        ...

    def from_package_state(self, state: Mapping[str, Any]) -> None:
        """Take over the reference package's `state_dict()`. Raises RunError if the parameters do not match."""
        ...


OPTIMIZERS: Registry[Callable[[FlatBuffer, Mapping[str, object]], Optimizer]] = Registry("optimizer")


def read_options(kind: type[Options], options: Mapping[str, object]) -> Options:
    """An optimizer's options dataclass from loose values. Raises ConfigError for an unknown name or a bad value."""
    known = dict(options)
    for name, (harmless, reason) in _WITHOUT_EFFECT.items():
        if name in known and known.pop(name) != harmless:
            raise ConfigError(f'"optimizer_args.{name}" has no effect here ({reason}); remove it')
    if str(known.get("growth_rate")).lower() in ("inf", "infinity"):
        del known["growth_rate"]  # the default, which settings, being JSON, cannot spell
    return from_json(kind, known, "optimizer_args.")


def check_betas(betas: tuple[float, ...], count: int = 2) -> None:
    """Raises ConfigError unless there are `count` betas, each in [0, 1)."""
    if len(betas) != count or not all(0 <= beta < 1 for beta in betas):
        example = ",".join(["0.98", "0.9", "0.99"][-count:])
        raise ConfigError(f'"optimizer_args.betas" is {betas}; give {count} numbers from 0 to below 1, as in {example}')


def check_positive(**values: float) -> None:
    """Raises ConfigError for a named option that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f'"optimizer_args.{name}" is {value}; give a number above 0')


def check_growth_rate(growth_rate: float) -> None:
    """Raises ConfigError below 1, where d would shrink."""
    if math.isnan(growth_rate) or growth_rate < 1:
        raise ConfigError(
            f'"optimizer_args.growth_rate" is {growth_rate}; give 1 or more (1.02 grows at most 2 % a step)'
        )


def check_state(buffer: FlatBuffer, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raises RunError unless `saved` has the names and shapes of `own` and was laid out like the buffer."""
    if set(own) != set(saved):
        raise RunError(f"the saved optimizer state has {sorted(saved)}, not {sorted(own)}: it is another optimizer's")
    shapes_differ = any(own[name].shape != saved[name].shape for name in own)
    if shapes_differ or int(saved["layout"]) != int(buffer.layout):
        raise RunError(
            "the saved optimizer state belongs to another network; resume with the network it was saved from"
        )
