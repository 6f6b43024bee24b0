"""What a run has said so far, for somebody who looks in later: where it stands, its curve, its warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ..events import (
    Cached,
    Finished,
    Measured,
    Measurement,
    Planned,
    Prepared,
    Sampled,
    Spiked,
    Stepped,
    TurnedBack,
    Warned,
)
from ..files.event_log import read_measurements, read_spikes
from ..files.run_folder import RunFolder
from ..hosts.venue import Progress
from ..plots import thinned
from ..telling import Pace, as_curve, describe_plan
from .turns import TurnAwaited, TurnTaken


class Account:
    """Listens to one run's events, over all its turns. Not safe to use from several threads by itself."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.step = self.total_steps = self.epoch = self.epochs = 0
        self.steps_taken = 0
        self.text = ""
        self.has_turn = self.is_finished = False
        self.announced: list[str] = []
        self.warnings: list[str] = []
        self.previews: list[Path] = []
        self._preview: Image.Image | None = None
        self._preview_epoch = 0
        self._measurements: list[Measurement] = []
        self._spikes: list[int] = []
        self._turned_back = 0
        self._pace = Pace(0)

    @property
    def seconds_left(self) -> float | None:
        """About how long the run will take, where that can be told."""
        return self._pace.seconds_left if self.has_turn else None

    def take(self, event: object) -> None:
        """Note what an event says."""
        if isinstance(event, TurnAwaited):
            self.has_turn, self.text = False, "waiting for the model to be free"
        elif isinstance(event, TurnTaken):
            self.has_turn = True
        elif isinstance(event, Planned):
            self.total_steps, self.epochs = event.plan.total_steps, event.plan.epochs
            self._pace = Pace(self.epochs)
            self._announce(describe_plan(event.plan))
        elif isinstance(event, Prepared):
            self._announce(str(event.footprint))
            self._catch_up(event.folder)
        elif isinstance(event, Cached):
            self.text = f"encoding {event.what}: {event.done}/{event.total}"
        elif isinstance(event, Stepped):
            self.step, self.total_steps, self.epoch = event.step, event.total_steps, event.epoch
            self.steps_taken += 1
            self.text = self._pace.line(event, self._measurements[-1] if self._measurements else None)
        elif isinstance(event, Measured):
            self._keep_up_to(event.measurements[0].step - 1)
            self._measurements += event.measurements
        elif isinstance(event, Spiked):
            self._spikes.append(event.step)
        elif isinstance(event, TurnedBack):
            self.step, self.total_steps = event.step, event.total_steps
            self._keep_up_to(event.step)
            self._turned_back += 1
        elif isinstance(event, Sampled):
            self._sampled(event)
        elif isinstance(event, Warned):
            self.warn(event.message)
        elif isinstance(event, Finished):
            self.folder, self.is_finished = event.folder, True

    def warn(self, message: str) -> None:
        """Keep a warning, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def progress(self) -> Progress:
        """Where the run stands, for the UI's own display."""
        return Progress(self.step, self.total_steps, self.text, self._preview)

    def curve(self, after: int) -> dict[str, Any]:
        """The numbers of the steps behind `after`, thinned; see `Studio.curve`."""
        if not self._measurements and self.folder is not None:
            return saved_curve(self.folder, after)
        return _curve([each for each in self._measurements if each.step > after], self._spikes, self.total_steps) | {
            "turned_back": self._turned_back
        }

    def forget_curve(self) -> None:
        """Leave the numbers of a run that is over to its log on disk."""
        self._measurements, self._preview = [], None

    def _announce(self, text: str) -> None:
        self.text = text
        if text not in self.announced:
            self.announced.append(text)

    def _catch_up(self, folder: Path) -> None:
        """The steps of earlier sessions; those that are done again take their place when they come."""
        if self.folder is None:
            log = RunFolder(folder, key="").events_file
            self._measurements = read_measurements(log)
            self._spikes = [each.step for each in read_spikes(log)]
        self.folder = folder

    def _keep_up_to(self, step: int) -> None:
        while self._measurements and self._measurements[-1].step > step:
            self._measurements.pop()

    def _sampled(self, event: Sampled) -> None:
        if event.epoch != self._preview_epoch:
            self.previews, self._preview_epoch = [], event.epoch
        self._preview = event.image
        if event.path is not None:
            self.previews.append(event.path)


def saved_curve(folder: Path, after: int = 0) -> dict[str, Any]:
    """The curve of a run that does not train now, out of its log; as `Account.curve`."""
    log = RunFolder(folder, key="").events_file
    measurements = [each for each in read_measurements(log) if each.step > after]
    total_steps = measurements[-1].step if measurements else 0
    return _curve(measurements, [each.step for each in read_spikes(log)], total_steps) | {"turned_back": 0}


def _curve(measurements: list[Measurement], spikes: list[int], total_steps: int) -> dict[str, Any]:
    return {"measurements": as_curve(thinned(measurements)), "spikes": list(spikes), "total_steps": total_steps}
