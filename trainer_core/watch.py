"""Watches d·lr while a run trains, and keeps what it takes to turn back from a spike (`on_spike`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from .events import Measurement, Spiked, Warned
from .plan import Plan
from .spikes import SpikeDetector, spike_words

_PREFIX = "start_of_epoch."


class Watch:
    """`spike` is the one that the run has to turn back from: set by `look`, or on resuming by `catch_up`."""

    def __init__(self, plan: Plan, is_cut: bool):
        """plan: as it was before any cut. is_cut: the run has turned back from a spike before; it does so once."""
        self.spike: Spiked | None = None
        self._detector = SpikeDetector(plan.total_steps, plan.config.spike_ratio)
        self._on_spike = "warn" if is_cut else plan.config.on_spike
        self._start_of_epoch: tuple[int, dict[str, Tensor]] | None = None

    @property
    def turns_back(self) -> bool:
        """Whether the run may yet have to go back to where its epoch began."""
        return self._on_spike != "warn"

    def look(self, measurements: Iterable[Measurement], total_steps: int) -> Iterator[Spiked | Warned]:
        """What there is to say of these steps. A spike at the run's last step is none: nothing is trained with it."""
        for spike in self._detector.find(measurements):
            if self.spike is None and spike.step < total_steps:
                yield spike
                yield Warned(spike_words(spike, self._on_spike))
                if self.turns_back:
                    self.spike = spike

    def catch_up(
        self, earlier: Iterable[Measurement], said: Iterable[Spiked], total_steps: int
    ) -> Iterator[Spiked | Warned]:
        """Look again at the steps of earlier sessions; of spikes, only those are named that were not `said`."""
        steps_said = {spike.step for spike in said}
        is_new = False
        for event in self.look(earlier, total_steps):
            is_new = event.step not in steps_said if isinstance(event, Spiked) else is_new
            if is_new:
                yield event

    def begin_epoch(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep a copy of what the epoch begins with, in the computer's memory."""
        if self.turns_back:
            self._start_of_epoch = step, {name: each.detach().to("cpu", copy=True) for name, each in state.items()}

    def turned_back(self) -> tuple[int, Mapping[str, Tensor]]:
        """The step and the state to go on from, as the spike's epoch began with them; no spike is looked for after."""
        assert self._start_of_epoch is not None, "every epoch begins with begin_epoch"
        start, self._start_of_epoch, self.spike, self._on_spike = self._start_of_epoch, None, None, "warn"
        return start

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs besides the log: the state that its epoch began with."""
        if self._start_of_epoch is None:
            return {}
        step, state = self._start_of_epoch
        return {_PREFIX + "step": torch.tensor(step), **{_PREFIX + name: each for name, each in state.items()}}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave, out of everything that was kept of the run."""
        state = {name[len(_PREFIX) :]: each for name, each in tensors.items() if name.startswith(_PREFIX)}
        if state and self.turns_back:
            step = int(state.pop("step"))
            self._start_of_epoch = step, state
