"""Training by the clock: a learning-rate schedule over a number of seconds, and states that survive an interruption."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Budget:
    """A stretch of seconds to train for. Progress follows the clock, so a busy machine gets fewer steps, not a longer
    wait, and the learning rate still ends where it should."""

    def __init__(self, seconds: float, spent: float = 0.0) -> None:
        self.seconds = seconds
        self._started = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds trained so far, those before an interruption included."""
        return time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the time is used up."""
        return min(1.0, self.spent / self.seconds)

    @property
    def is_left(self) -> bool:
        return self.progress < 1.0


def warm_cosine(progress: float, warmup: float = 0.02, floor: float = 0.01) -> float:
    """Learning-rate factor: linear up over the first `warmup` of the budget, then a cosine down to `floor`."""
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    along = (progress - warmup) / (1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))


class Average:
    """Exponential moving average of parameters: what is saved, because it draws better than the last step's weights."""

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self._live = list(parameters)
        self._decay = decay
        self._steps = 0
        self.values = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def update(self) -> None:
        self._steps += 1
        # the young average must forget its random start sooner than its decay would
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self.values, [p.detach() for p in self._live], 1 - decay)

    @torch.no_grad()
    def copy_to(self, parameters: Iterable[Tensor]) -> None:
        for parameter, value in zip(parameters, self.values):
            parameter.copy_(value)

    def state(self) -> dict[str, Any]:
        return {"steps": self._steps, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        for value, saved in zip(self.values, state["values"]):
            value.copy_(saved)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state so that an interruption leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half_written = path.with_suffix(".tmp")
    torch.save(state, half_written)
    os.replace(half_written, path)


def load_state(path: Path) -> dict[str, Any] | None:
    """The state written by `save_state`, or None when there is none yet."""
    return torch.load(path, weights_only=True) if path.exists() else None
