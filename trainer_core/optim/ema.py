"""A running average of the weights, which is often better than where the last step happened to end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Ema:
    """Exponential moving average of a flat tensor, one kernel a step (Polyak & Juditsky 1992).

    Its decay begins low and rises to `decay`, min(decay, (1 + n)/(10 + n)) at update n from 0, as diffusers' EMAModel
    has it with its warm-up: else a short run's average would be mostly its start, an adapter that does nothing."""

    def __init__(self, values: Tensor, decay: float):
        """values: flat, fp32; what is averaged, and the average's start. decay: in (0, 1)."""
        self._values = values
        self._decay = decay
        self._updates = 0
        self.average = values.detach().clone()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards what the values are now; once after each step."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        self.average.lerp_(self._values, 1 - decay)
        self._updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """What must be kept to go on exactly."""
        return {"average": self.average, "updates": torch.tensor(self._updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a kept state."""
        self.average.copy_(state["average"])
        self._updates = int(state["updates"])
