"""Numbers that stay on the device: 0-dim tensors, so that no step waits for their values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def scalar_dtype(device: torch.device) -> torch.dtype:
    """fp64, which the packages' Python floats are; fp32 on Apple's GPUs, which have no fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


def as_scalar(value: Any, device: torch.device) -> Tensor:
    """A new 0-dim tensor of that number (or 0-dim tensor) on the device."""
    if isinstance(value, Tensor):
        return value.detach().to(device=device, dtype=scalar_dtype(device), copy=True)
    return torch.tensor(value, dtype=scalar_dtype(device), device=device)


def fp32_scalars(*values: Tensor) -> tuple[Tensor, ...]:
    """The values as 0-dim fp32, as a kernel over fp32 data takes them without converting inside its loop."""
    return torch.stack(values).to(torch.float32).unbind()


def bias_correction(betas: tuple[float, float], k: Tensor) -> Tensor:
    """Adam's factor √(1 − β2^(k+1)) / (1 − β1^(k+1)) for the step after k steps; k and the result are 0-dim."""
    beta1, beta2 = betas
    return (1 - torch.pow(beta2, k + 1)).sqrt() / (1 - torch.pow(beta1, k + 1))
