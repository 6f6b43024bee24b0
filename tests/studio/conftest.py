"""A venue with a stub for a model, and whose queue a test can fill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.studio.stub_host import StubHost
from trainer_core.hosts.venue import GridRequest, Progress
from trainer_core.studio import Studio

SECONDS = 60  # after which a test gives up; all of them together take a few


class FakeVenue:
    """A UI as far as a studio sees one.

    waiting: generations that want the model; at each turn's end one of them gets it. interrupt_at: the step at which
    somebody presses the UI's stop button. at_step: what somebody does once that step is shown. log: what was done, in
    order. shown: what the UI's progress bar said."""

    name = "Fake"

    def __init__(self, host: StubHost, runs_dir: Path, allowed: Path):
        self.loaded = host
        self.runs_dir = runs_dir
        self._allowed = allowed
        self.waiting: list[Callable[[], None]] = []
        self.log: list[str] = []
        self.shown: list[Progress] = []
        self.interrupt_at: int | None = None
        self.at_step: dict[int, Callable[[], None]] = {}
        self.lock = threading.Lock()

    def allows(self, path: Path) -> bool:
        return path.expanduser().resolve().is_relative_to(self._allowed.resolve())

    def models(self) -> list[str]:
        return ["tiny", "other"]

    def host(self, model: str = "") -> StubHost:
        assert self.lock.locked(), "a host is asked for within a turn"
        return self.loaded

    @contextmanager
    def turn(self, title: str) -> Iterator[FakeTurn]:
        with self.lock:
            self.log.append("turn")
            yield FakeTurn(self)
            assert not self.loaded.is_borrowed, "the model is given back before the turn ends"
        self.log.append("free")
        if self.waiting:
            self.waiting.pop(0)()

    def epochs_changed(self) -> None:
        self.log.append("epochs")

    def grid(self, request: GridRequest) -> Image.Image:
        raise NotImplementedError


class FakeTurn:
    def __init__(self, venue: FakeVenue):
        self._venue = venue

    def show(self, progress: Progress) -> None:
        self._venue.shown.append(progress)
        self._venue.at_step.pop(progress.step, lambda: None)()

    def is_interrupted(self) -> bool:
        at = self._venue.interrupt_at
        return at is not None and bool(self._venue.shown) and self._venue.shown[-1].step >= at

    def is_awaited(self) -> bool:
        return bool(self._venue.waiting)


@pytest.fixture
def venue(tmp_path) -> FakeVenue:
    return FakeVenue(StubHost(), tmp_path / "loras", tmp_path)


@pytest.fixture
def studio(venue) -> Iterator[Studio]:
    studio = Studio(venue)
    yield studio
    studio.stop()
    settled(studio)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Four pictures with captions, two repeats each."""
    folder = tmp_path / "pictures" / "2_thing"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (64, 64), (60 * number, 200, 100)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a thing, tag{number}, more")
    return folder.parent


@pytest.fixture
def recipe(pictures) -> Callable[..., dict]:
    """A small run's settings as a page sends them: 4 steps an epoch; sections are merged in."""

    def make(**changes) -> dict:
        values = {
            "output_name": "thing",
            "max_train_epochs": 2,
            "save_precision": "fp32",
            "dataset": {"folder": str(pictures), "resolution": 64, "bucket_reso_steps": 8, "batch_size": 2},
            "network": {"rank": 4, "alpha": 2},
            "optimizer": {"optimizer": "AdamW", "learning_rate": 1e-3},
        }
        for key, value in changes.items():
            values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
        return values

    return make


def settled(studio: Studio) -> dict:
    """The status once nothing trains any more."""
    return until(studio, lambda status: status["state"] == "idle")


def until(studio: Studio, is_so: Callable[[dict], bool]) -> dict:
    """The first status of which that is so."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        status = studio.status()
        if is_so(status):
            return status
        time.sleep(0.005)
    raise AssertionError(f"still {studio.status()}")
