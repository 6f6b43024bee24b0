"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101): torch's own, on one flat tensor per group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import OPTIMIZERS, check_betas, check_state, read_options
from .blocks import largest_lr
from .flat import FlatBuffer, Group, Place
from .package_state import from_package, to_package


@dataclass(frozen=True)
class AdamWOptions:
    """torch.optim.AdamW's options, names and defaults."""

    betas: tuple[float, float] = setting((0.9, 0.999), help="Memory of the gradient and of its square.")
    eps: float = setting(1e-8, help="Added to the root.", ge=0)
    weight_decay: float = setting(1e-2, help="How strongly parameters are drawn to zero.", ge=0)

    def __post_init__(self):
        check_betas(self.betas)


@OPTIMIZERS.register("AdamW")
class AdamW:
    """torch.optim.AdamW with one tensor per group: one fused kernel each where torch has it for the device.

    A group with rate 0 stays as it is. State: exp_avg, exp_avg_sq [N] fp32; step 0-dim fp32.
    Raises ConfigError for an unknown or impossible option."""

    def __init__(self, buffer: FlatBuffer, options: Mapping[str, object]):
        self.options = read_options(AdamWOptions, options)
        largest_lr(buffer)  # refuses a buffer in which every group is frozen
        self._buffer = buffer
        self._moving = [group for group in buffer.groups if group.lr > 0 and group.start < group.stop]
        self._exp_avg = torch.zeros_like(buffer.params)
        self._exp_avg_sq = torch.zeros_like(buffer.params)
        self._adamw = self._torch_adamw()
        self._set_step(torch.tensor(0.0))

    @property
    def d(self) -> None:
        """AdamW learns no distance."""
        return None

    def effective_lr(self, lr_factor: float) -> dict[str, Tensor | float]:
        """Each group's lr · lr_factor."""
        return {group.name: group.lr * lr_factor for group in self._buffer.groups}

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Move once. At lr_factor 0 the moments still take the gradient in, as in torch."""
        for group, torch_group in zip(self._moving, self._adamw.param_groups, strict=True):
            torch_group["lr"] = group.lr * lr_factor
        self._adamw.step()

    def _torch_adamw(self) -> torch.optim.AdamW:
        try:
            return torch.optim.AdamW(self._torch_groups(), **asdict(self.options), fused=True)
        except RuntimeError:  # torch has no fused kernel for this device: the CPU before 2.4, Apple's GPUs before 2.5
            return torch.optim.AdamW(self._torch_groups(), **asdict(self.options))

    def _torch_groups(self) -> list[dict[str, Any]]:
        """New at each call, as torch writes its options into them, also where it then refuses."""
        return [{"params": [self._view_of(group)], "lr": group.lr} for group in self._moving]

    def _view_of(self, group: Group) -> nn.Parameter:
        whole = nn.Parameter(self._buffer.params[group.start : group.stop])
        whole.grad = self._buffer.grads[group.start : group.stop]
        return whole

    def _set_step(self, step: Tensor) -> None:
        is_fused = bool(self._adamw.defaults.get("fused"))
        for group, torch_group in zip(self._moving, self._adamw.param_groups, strict=True):
            stretch = slice(group.start, group.stop)
            self._adamw.state[torch_group["params"][0]] = {
                # where torch keeps it: beside the parameters for the fused kernel, else on the CPU
                "step": step.detach().to(self._buffer.device if is_fused else "cpu", torch.float32, copy=True),
                "exp_avg": self._exp_avg[stretch],
                "exp_avg_sq": self._exp_avg_sq[stretch],
            }

    @property
    def _step(self) -> Tensor:
        return self._adamw.state[self._adamw.param_groups[0]["params"][0]]["step"]

    def averaged(self) -> None:
        """What trains is what is saved."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """The live state, flat: save or clone it before the next step."""
        return {**self._flat_state(), "step": self._step, "layout": self._buffer.layout}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy a saved state in. Raises RunError if it is another network's or another optimizer's."""
        check_state(self._buffer, self.state_dict(), state)
        for name, flat in self._flat_state().items():
            flat.copy_(state[name])
        self._set_step(state["step"])

    @torch.no_grad()
    def to_package_state(self) -> dict[str, Any]:
        """The state as the `state_dict()` of torch.optim.AdamW over the single parameters."""
        step = self._step.detach().cpu()

        def group_values(group: Group) -> dict[str, Any]:
            return {**self._adamw.defaults, "lr": group.lr, "fused": None}

        def per_parameter(place: Place) -> dict[str, Any]:
            return {"step": step.clone(), **{name: place.of(flat).clone() for name, flat in self._flat_state().items()}}

        return to_package(self._buffer, group_values, per_parameter)

    @torch.no_grad()
    def from_package_state(self, state: Mapping[str, Any]) -> None:
        """Take over torch.optim.AdamW's `state_dict()`. Raises RunError if the parameters do not match."""
        flat = self._flat_state()
        from_package(self._buffer, state, lambda place: {name: place.of(stream) for name, stream in flat.items()})
        self._set_step(next(iter(state["state"].values()))["step"])

    def _flat_state(self) -> dict[str, Tensor]:
        return {"exp_avg": self._exp_avg, "exp_avg_sq": self._exp_avg_sq}
