"""A low-precision copy of the adapters for the forward pass: cast once a step, not once a use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .flat import FlatBuffer


class Shadow:
    """Compute-dtype weights beside the fp32 masters of a `FlatBuffer`: one copy kernel a step, one add a backward.

    In fp32 the masters themselves serve, and nothing is copied. In fp16 losses are scaled so that small gradients
    survive; the scale lives on the device and adapts without a sync, as torch's GradScaler does with one."""

    def __init__(self, buffer: FlatBuffer, dtype: torch.dtype):
        """dtype: fp32, bf16 or fp16."""
        self._buffer = buffer
        self.is_copy = dtype != torch.float32
        self.weights: dict[str, Tensor] = {}
        self.scale = _LossScale(buffer.params.device) if dtype == torch.float16 else None
        if self.is_copy:
            self._values = buffer.params.to(dtype)
            self._grads = torch.zeros_like(self._values)
            for place in buffer.places:
                weight = nn.Parameter(place.of(self._values))
                weight.grad = place.of(self._grads)
                self.weights[f"{place.group}/{place.name}"] = weight

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the masters' gradients."""
        (loss if self.scale is None else loss * self.scale.value).backward()
        if self.is_copy:
            self._buffer.grads.add_(self._grads)
            self._grads.zero_()

    def unscale(self) -> None:
        """Bring the masters' gradients to the loss's own scale; once before they are looked at."""
        if self.scale is not None:
            self._buffer.grads.div_(self.scale.value)

    def refresh(self, step_was_finite: Tensor) -> None:
        """After an optimizer step: copy the masters, and adapt the loss scale to whether the gradient was finite."""
        self.copy_masters()
        if self.scale is not None:
            self.scale.adapt(step_was_finite)

    def copy_masters(self) -> None:
        """Compute with what the masters are now."""
        if self.is_copy:
            self._values.copy_(self._buffer.params)

    def tensors(self) -> list[Tensor]:
        """The copy and its gradients, none in fp32."""
        return [self._values, self._grads] if self.is_copy else []

    def state_dict(self) -> dict[str, Tensor]:
        """What must be kept to go on exactly."""
        return {} if self.scale is None else {"loss_scale": self.scale.value, "loss_scale_age": self.scale.age}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a kept state; the masters have been loaded before."""
        self.copy_masters()
        if self.scale is not None:
            self.scale.value.copy_(state["loss_scale"])
            self.scale.age.copy_(state["loss_scale_age"])


class _LossScale:
    """A factor that halves when a gradient overflows and doubles after 2000 steps without (torch.amp's numbers)."""

    GROWTH_INTERVAL = 2000

    def __init__(self, device: torch.device):
        self.value = torch.full((), 2.0**16, device=device)
        self.age = torch.zeros((), device=device)

    def adapt(self, was_finite: Tensor) -> None:
        self.age.add_(1).mul_(was_finite)
        has_aged = self.age >= self.GROWTH_INTERVAL
        self.value.copy_(torch.where(was_finite, torch.where(has_aged, self.value * 2, self.value), self.value / 2))
        self.age.mul_(~has_aged)
