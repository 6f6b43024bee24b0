"""Reads a run's numbers off the device now and then, so that no step has to wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import TrainingError
from .events import Measured, Measurement, Warned

_SECONDS_BETWEEN_READS = 1.0
_LAST_STRAW = 5  # steps in a row without a finite gradient


@dataclass(frozen=True)
class _Pending:
    step: int
    epoch: int
    pictures: str
    known: Mapping[str, float]
    on_device: Mapping[str, Tensor]


class Meter:
    """Collects each step's numbers on the device and reads them about once a second, in one transfer."""

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._read_at = time.monotonic()
        self._failures = 0

    def record(
        self,
        step: int,
        epoch: int,
        pictures: str,
        loss: Tensor,
        grad_norm: Tensor,
        lr: Mapping[str, Tensor | float],
        d: Tensor | None,
    ) -> None:
        """Note a step's numbers: 0-dim tensors that are not looked at yet. `pictures` names the batch, for messages."""
        named = {"loss": loss, "grad_norm": grad_norm, **{f"lr/{group}": rate for group, rate in lr.items()}}
        if d is not None:
            named["d"] = d
        on_device = {name: value.detach().float() for name, value in named.items() if isinstance(value, Tensor)}
        known = {name: value for name, value in named.items() if not isinstance(value, Tensor)}
        self._pending.append(_Pending(step, epoch, pictures, known, on_device))

    def forget(self) -> None:
        """Drop what was not said yet: the run turns back from these steps."""
        self._pending, self._failures = [], 0

    def due(self) -> Iterator[Measured | Warned]:
        """What there is to say, if it has been a while."""
        if time.monotonic() - self._read_at >= _SECONDS_BETWEEN_READS:
            yield from self.rest()

    def rest(self) -> Iterator[Measured | Warned]:
        """Everything not yet said. Raises TrainingError when several steps in a row had no finite gradient."""
        pending, self._pending = self._pending, []
        self._read_at = time.monotonic()
        if not pending:
            return
        numbers = iter(torch.stack([value for each in pending for value in each.on_device.values()]).tolist())
        measurements = [_measurement(each, {name: next(numbers) for name in each.on_device}) for each in pending]
        yield Measured(tuple(measurements))
        for each, measurement in zip(pending, measurements, strict=True):
            yield from self._judged(each, measurement)

    def _judged(self, each: _Pending, measurement: Measurement) -> Iterator[Warned]:
        if _is_finite(measurement):
            self._failures = 0
            return
        self._failures += 1
        what = f"the loss of step {each.step} is not a number (pictures: {each.pictures})"
        if self._failures >= _LAST_STRAW:
            raise TrainingError(
                f"{what}, for the {self._failures}th step in a row; lower the learning rate or alpha, or set "
                "mixed_precision to fp32. Every epoch saved so far and the state before these steps are kept"
            )
        yield Warned(f"{what}; the step was left out")


def _is_finite(measurement: Measurement) -> bool:
    return all(abs(number) < float("inf") for number in (measurement.loss, measurement.grad_norm))


def _measurement(each: _Pending, read: Mapping[str, float]) -> Measurement:
    numbers = {**each.known, **read}
    rates = {name.removeprefix("lr/"): value for name, value in numbers.items() if name.startswith("lr/")}
    return Measurement(each.step, each.epoch, numbers["loss"], numbers["grad_norm"], rates, numbers.get("d"))
