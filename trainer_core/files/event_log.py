"""Every step's numbers as lines of JSON, readable while the run goes on and complete after any number of resumes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from ..events import Event, Measured, Measurement, Sampled, Saved, Spiked, TurnedBack, Warned


class EventLog:
    """Appends what is worth keeping of a run's events to a file."""

    def __init__(self, path: Path):
        self.path = path

    def record(self, event: Event) -> None:
        """Write the event's lines, if it has any."""
        lines = _lines(event)
        if lines:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_measurements(path: Path) -> list[Measurement]:
    """Each optimizer step's numbers once, in order: of steps that were done again after a resume, the later ones, and
    none of those that the run has turned back from. Lines that make no sense are passed over."""
    steps: dict[int, Measurement] = {}
    for entry in _entries(path):
        event = entry.pop("event", None)
        if event == "step" and _is_measurement(entry):
            measurement = Measurement(**entry)
            steps[measurement.step] = measurement
        elif event == "turned_back" and isinstance(entry.get("step"), int):
            steps = {step: each for step, each in steps.items() if step <= entry["step"]}
    return [steps[step] for step in sorted(steps)]


def read_spikes(path: Path) -> list[Spiked]:
    """Every spike of d·lr that was found, in order, each once; that which the run was cut at among them."""
    spikes: dict[int, Spiked] = {}
    for entry in _entries(path):
        if entry.pop("event", None) == "spiked" and _is_spike(entry):
            spikes[entry["step"]] = Spiked(**entry)
    return [spikes[step] for step in sorted(spikes)]


def _is_measurement(entry: dict) -> bool:
    rates = entry.get("lr")
    numbers = [entry.get("loss"), entry.get("grad_norm"), *(rates.values() if isinstance(rates, dict) else [None])]
    if entry.get("d") is not None:
        numbers.append(entry["d"])
    return _has_place(entry, Measurement) and all(isinstance(each, (int, float)) for each in numbers)


def _is_spike(entry: dict) -> bool:
    return _has_place(entry, Spiked) and isinstance(entry.get("rise"), (int, float))


def _has_place(entry: dict, kind: type) -> bool:
    """Whether it says at which step, and nothing that such an event does not say."""
    places = (entry.get("step"), entry.get("epoch"))
    return entry.keys() <= kind.__dataclass_fields__.keys() and all(isinstance(each, int) for each in places)


def _entries(path: Path) -> Iterator[dict]:
    if path.exists():
        yield from map(_parsed, path.read_text(encoding="utf-8", errors="replace").splitlines())


def _lines(event: Event) -> list[dict]:
    if isinstance(event, Measured):
        return [{"event": "step", **dataclasses.asdict(each)} for each in event.measurements]
    if isinstance(event, Spiked):
        return [{"event": "spiked", **dataclasses.asdict(event)}]
    if isinstance(event, TurnedBack):
        return [{"event": "turned_back", **dataclasses.asdict(event)}]
    if isinstance(event, Saved):
        return [{"event": "saved", "epoch": event.epoch, "file": event.path.name}]
    if isinstance(event, Sampled):
        return [{"event": "sampled", "epoch": event.epoch, "prompt": event.prompt}]
    if isinstance(event, Warned):
        return [{"event": "warned", "message": event.message}]
    return []


def _parsed(line: str) -> dict:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}  # a line cut off by a power failure
    return entry if isinstance(entry, dict) else {}
