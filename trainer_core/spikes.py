"""Finds the step at which d·lr leaps up: guide 4's sign that a run with Prodigy or D-Adaptation goes wrong from there.

An adaptive optimizer's d searches first, over decades and in leaps; then it stands, or creeps. A leap after it has once
stood is a spike: within a fiftieth of the run d becomes `ratio` times as high. What is looked at is d, which is d·lr
without the schedule: so no warm-up, cosine or restart is taken for a leap, however the curve of d·lr moves with it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

from .events import Measurement, Spiked

_STANDING = 1.1  # d stands while it grows no more than this over three windows
_SHORTEST, _LONGEST = 10, 100  # steps


class SpikeDetector:
    """Looks at a run's steps in order. It decides on a step by that step and earlier ones only, so that a run which was
    stopped and goes on, having looked at the old steps again, decides alike."""

    def __init__(self, total_steps: int, ratio: float):
        """total_steps: as first planned. ratio > 1: how many times as high d becomes in a leap that counts."""
        self._window = min(_LONGEST, max(_SHORTEST, total_steps // 50))
        self._ratio = ratio
        self._first: float | None = None
        self._recent: deque[float] = deque(maxlen=3 * self._window + 1)
        self._has_stood = False

    def find(self, measurements: Iterable[Measurement]) -> Iterator[Spiked]:
        """The spikes that these steps have made. A leap counts once; after it, d has to stand again."""
        for each in measurements:
            if each.d is not None and math.isfinite(each.d) and each.d > 0:
                rise = self._rise(each.d)
                if rise is not None:
                    yield Spiked(each.step, each.epoch, rise)

    def _rise(self, d: float) -> float | None:
        if self._first is None:
            self._first = d
        self._recent.append(d)
        if not self._has_stood:
            self._has_stood = self._stands(d, self._first)
            return None
        rise = d / self._recent[-1 - self._window]
        if rise < self._ratio:
            return None
        self._has_stood = False
        self._recent.clear()
        return rise

    def _stands(self, d: float, first: float) -> bool:
        """Whether the search is over: d has left its first value, which it keeps while it has seen too little."""
        is_full = len(self._recent) == self._recent.maxlen
        return is_full and d > 2 * first and d <= _STANDING * self._recent[0]


def spike_words(spike: Spiked, on_spike: str) -> str:
    """What a person should know of a spike, and what is done about it."""
    found = (
        f"d·lr leaps to {spike.rise:.2g} times its value at step {spike.step}, in epoch {spike.epoch}: what comes "
        "after it is likely to be overcooked"
    )
    before = f"epoch {spike.epoch - 1}" if spike.epoch > 1 else "the start"
    if on_spike == "cut":
        return f"{found}; the run goes on from {before} with its schedule re-planned to end at that step"
    if on_spike == "stop":
        return f"{found}; the run ends with {before if spike.epoch > 1 else 'that step'}"
    return f"{found}; use an epoch before it, set on_spike to cut, or raise d_coef until it does not leap"
