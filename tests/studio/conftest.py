"""A venue whose model is a tiny random Stable Diffusion, and whose queue a test can fill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.core.conftest import make_config, pictures, tiny_host  # noqa: F401  (fixtures)
from trainer_core.hosts.venue import GridRequest, Progress
from trainer_core.settings import to_json
from trainer_core.studio import Studio


class FakeVenue:
    """A UI as far as a studio sees one. waiting: generations that want the model; each turn's end lets one of them
    pass. `log` says what was done, in order."""

    name = "Fake"

    def __init__(self, host, runs_dir: Path, allowed: Path):
        self.loaded = host
        self.runs_dir = runs_dir
        self._allowed = allowed
        self.waiting: list[Callable[[], None]] = []
        self.log: list[str] = []
        self.shown: list[Progress] = []
        self.interrupts_at: int | None = None
        self.lock = threading.Lock()

    def allows(self, path: Path) -> bool:
        return path.expanduser().resolve().is_relative_to(self._allowed.resolve())

    def models(self) -> list[str]:
        return ["tiny", "other"]

    def host(self, model: str = ""):
        assert self.lock.locked(), "a host is asked for within a turn"
        return self.loaded

    @contextmanager
    def turn(self, title: str) -> Iterator[FakeTurn]:
        with self.lock:
            self.log.append("turn")
            yield FakeTurn(self)
        self.log.append("free")
        if self.waiting:
            self.waiting.pop(0)()

    def epochs_changed(self) -> None:
        self.log.append("epochs")

    def grid(self, request: GridRequest):
        raise NotImplementedError


class FakeTurn:
    def __init__(self, venue: FakeVenue):
        self._venue = venue

    def show(self, progress: Progress) -> None:
        self._venue.shown.append(progress)

    def is_interrupted(self) -> bool:
        at = self._venue.interrupts_at
        return at is not None and bool(self._venue.shown) and self._venue.shown[-1].step >= at

    def is_awaited(self) -> bool:
        return bool(self._venue.waiting)


@pytest.fixture
def venue(tiny_host, tmp_path) -> FakeVenue:  # noqa: F811
    return FakeVenue(tiny_host, tmp_path / "loras", tmp_path)


@pytest.fixture
def studio(venue) -> Studio:
    return Studio(venue)


@pytest.fixture
def recipe(make_config):  # noqa: F811
    """A small run's settings as a page sends them."""

    def make(**changes) -> dict:
        values = to_json(make_config(**changes))
        del values["output_dir"]
        return values

    return make


def settled(studio: Studio, seconds: float = 60) -> dict:
    """The status once nothing trains any more."""
    return until(studio, lambda status: status["state"] == "idle", seconds)


def until(studio: Studio, is_so: Callable[[dict], bool], seconds: float = 60) -> dict:
    """The first status of which that is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = studio.status()
        if is_so(status):
            return status
        time.sleep(0.01)
    raise AssertionError(f"still {studio.status()}")
