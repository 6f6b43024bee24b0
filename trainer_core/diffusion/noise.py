"""Noise and timesteps, each a function of (seed, step), never of history: a resumed run equals an uninterrupted one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = 2**64 - 1


def mixed_seed(*numbers: int) -> int:
    """One well-spread seed in [0, 2⁶³) out of several numbers (SplitMix64's finalizer; Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + (number & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def seeded(seed: int, device: torch.device | str) -> torch.Generator:
    """A generator of our own on the device: the host's global random state is never touched."""
    return torch.Generator(device=device).manual_seed(seed)


def draw_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal noise, fp32, on the generator's device."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device)


def draw_timesteps(count: int, low: int, high: int, generator: torch.Generator) -> Tensor:
    """Timesteps [count], uniform in [low, high), on the generator's device (as kohya's min_/max_timestep)."""
    return torch.randint(low, high, (count,), generator=generator, device=generator.device)
