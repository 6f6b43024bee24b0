"""A run as it is told to the person who watches it: the plan and the pace in words, the numbers as JSON."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from .events import Measurement, Stepped
from .plan import Plan


def describe_plan(plan: Plan) -> str:
    """What is about to happen, in one line."""
    return (
        f"{many(len(plan.dataset.examples), 'picture')}, {many(plan.steps_per_epoch, 'step')} an epoch, "
        f"{many(plan.epochs, 'epoch')}: {plan.total_steps} steps"
    )


class Pace:
    """Turns steps as they come into "epoch 3/10, step 120/400, loss 0.081, d·lr 1.2e-04, 2.1 steps/s, 2 min left"."""

    def __init__(self, epochs: int, clock: Callable[[], float] = time.monotonic):
        self._epochs = epochs
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self.seconds_left: float | None = None

    def line(self, at: Stepped, last: Measurement | None) -> str:
        """The words for the step that was just made; `last` is the newest one whose numbers are known."""
        parts = [f"epoch {at.epoch}/{self._epochs}", f"step {at.step}/{at.total_steps}"]
        if last is not None:
            rate = next(iter(last.lr.values()), 0.0)
            parts += [f"loss {last.loss:.3g}", f"{'d·lr' if last.d is not None else 'lr'} {rate:.2e}"]
        return ", ".join([*parts, *self._speed(at)])

    def _speed(self, at: Stepped) -> list[str]:
        now = self._clock()
        if self._first is None:
            self._first = (at.step, now)
        steps, seconds = at.step - self._first[0], now - self._first[1]
        if steps <= 0 or seconds <= 0:
            return []
        speed = steps / seconds
        self.seconds_left = (at.total_steps - at.step) / speed
        shown = f"{speed:.2g} steps/s" if speed >= 1 else f"{1 / speed:.2g} s/step"
        return [shown, f"{_duration(self.seconds_left)} left"]


def as_json(measurement: Measurement) -> dict[str, Any]:
    """For a page: NaN and infinity, which JSON has no words for, become null."""
    return _finite(dataclasses.asdict(measurement))


def as_curve(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """A run's curve for a page."""
    return [as_json(each) for each in measurements]


def many(count: int, thing: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
