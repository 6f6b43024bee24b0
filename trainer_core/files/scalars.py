"""A run's numbers for TensorBoard, under the tags that people know from kohya's sd-scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..errors import RunError
from ..events import Event, Measured, Measurement, Spiked, TurnedBack, Warned
from .event_file import EventFile

_COMPONENTS = {"unet": "unet", "te1": "textencoder", "te2": "textencoder"}  # SDXL's two share their rate


class ScalarLog:
    """Writes what the meter has read as scalars: `loss/*` and, for each group, `lr/*` and `lr/d*lr/*`.

    The tags are those of sd-scripts' `generate_step_logs`, less the second copies of the rates that it writes as
    `lr/group0` and so on. Rates are those that the step was made with; sd-scripts writes those of the step after.
    `loss/epoch_average` counts epochs where the others count steps, as there."""

    def __init__(
        self,
        folder: Path,
        steps_per_epoch: int,
        scheduled_rates: Callable[[int], Mapping[str, float]],
        earlier: Iterable[Measurement] = (),
    ):
        """scheduled_rates: from a step, counted from 1, each group's rate × schedule, without d. earlier: the steps
        that are done already, for the averages. Raises RunError for a folder that cannot be written."""
        self._steps_per_epoch, self._scheduled_rates = steps_per_epoch, scheduled_rates
        self._average = LossAverage(steps_per_epoch)
        self._ended_epoch: tuple[int, float] | None = None
        first_step = 1
        for each in earlier:
            self._average.add(each.step, each.loss)
            first_step = each.step + 1
        try:
            self._file = EventFile(folder, first_step)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RunError(
                f"{folder}: TensorBoard's folder cannot be written ({reason}); choose another logging_dir"
            ) from None

    def record(self, event: Event) -> None:
        """Write the event's numbers, if it has any."""
        if isinstance(event, (Spiked, Warned)):
            return
        if isinstance(event, TurnedBack):
            self._ended_epoch = None
            self._file.restart(event.step + 1)
            return
        if self._ended_epoch is not None:  # it stays: the run has not turned back from it
            epoch, average = self._ended_epoch
            self._file.add(epoch, {"loss/epoch_average": average})
            self._ended_epoch = None
        if isinstance(event, Measured):
            for each in event.measurements:
                self._add(each)

    def _add(self, each: Measurement) -> None:
        self._average.add(each.step, each.loss)
        average = self._average.at(each.step)
        scalars = {"loss/current": each.loss, "loss/average": average}
        for group, rate in self._scheduled_rates(each.step).items():
            scalars[f"lr/{kohya_group(group)}"] = rate
            if each.d is not None:
                scalars[f"lr/d*lr/{kohya_group(group)}"] = each.lr[group]
        self._file.add(each.step, scalars)
        if each.step % self._steps_per_epoch == 0:
            self._ended_epoch = each.epoch, average


class LossAverage:
    """kohya's moving average of the loss (`LossRecorder`): over as many steps as an epoch has, fewer at first."""

    def __init__(self, steps_per_epoch: int):
        self._steps_per_epoch = steps_per_epoch
        self._losses: dict[int, float] = {}

    def add(self, step: int, loss: float) -> None:
        """Note a step's loss; a step that is done again replaces the earlier one."""
        self._losses[step] = loss

    def at(self, step: int) -> float:
        """The average up to this step, losses that are no numbers left out; NaN where there is none."""
        recent = range(max(1, step - self._steps_per_epoch + 1), step + 1)
        losses = [self._losses[each] for each in recent if math.isfinite(self._losses.get(each, math.nan))]
        return sum(losses) / len(losses) if losses else math.nan


def kohya_group(group: str) -> str:
    """What sd-scripts calls a group of parameters: `unet`, `textencoder`; blocks with a factor are `unet_x0.5`."""
    component, *rest = group.split(" ", 1)
    return "_".join([_COMPONENTS.get(component, component), *rest])
