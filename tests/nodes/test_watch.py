"""The node waits for its run, shows what happens, and leaves nothing half done when it is stopped."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image

from tests.nodes.pack import load

watch, events, job_module = load("nodes.watch"), load("trainer_core.events"), load("trainer_core.job")
errors, footprint = load("trainer_core.errors"), load("trainer_core.footprint")


class Stopped(BaseException):
    """Like ComfyUI's InterruptProcessingException."""


def nothing(*_: object) -> None:
    pass


def measurement(step: int, loss: float = 0.1) -> object:
    return events.Measurement(step, 1, loss, 1.0, {"unet": 1e-4}, 1e-4)


def test_the_run_has_its_epochs_in_memory(tmp_path: Path):
    path = tmp_path / "a-000001.safetensors"
    tensor = torch.ones(3)
    stream = [events.Saved(1, path, {"key": tensor}), events.Finished(tmp_path, ((1, path),), 3)]
    shown: list[object] = []
    run = watch.follow(job_module.Job(lambda: iter(stream)).start(), shown.append, nothing)
    assert shown == stream
    assert run.epoch(-1).state_dict()["key"] is tensor


def test_of_many_epochs_only_the_newest_stay_in_memory(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(watch, "_MOST_BYTES", 25)
    paths = [(epoch, tmp_path / f"a-{epoch:06d}.safetensors") for epoch in (1, 2, 3, 4)]
    stream = [events.Saved(epoch, path, {"key": torch.full((3,), float(epoch))}) for epoch, path in paths]
    stream.append(events.Finished(tmp_path, tuple(paths), 3))
    run = watch.follow(job_module.Job(lambda: iter(stream)).start(), nothing, nothing)
    assert [float(run.epoch(epoch).state_dict()["key"][0]) for epoch in (3, 4)] == [3, 4]
    with pytest.raises(errors.RunError):  # it looks for the file, which this test has not written
        run.epoch(2).state_dict()


def test_stopping_waits_until_the_run_has_cleaned_up():
    cleaned: list[int] = []

    def endless() -> Iterator[object]:
        try:
            for step in range(10**9):
                yield events.Stepped(step + 1, 10**9, 1)
        finally:
            cleaned.append(1)

    calls = iter([False, False, True])

    def raise_if_interrupted() -> None:
        if next(calls, False):
            raise Stopped

    job = job_module.Job(endless)
    with pytest.raises(Stopped):
        watch.follow(job.start(), nothing, raise_if_interrupted)
    assert cleaned and not job.is_alive


def test_a_display_that_breaks_ends_the_run_cleanly_too():
    cleaned: list[int] = []

    def endless() -> Iterator[object]:
        try:
            while True:
                yield events.Warned("x")
        finally:
            cleaned.append(1)

    def broken(_: object) -> None:
        raise RuntimeError("no socket")

    with pytest.raises(RuntimeError, match="no socket"):
        watch.follow(job_module.Job(endless).start(), broken, nothing)
    assert cleaned


def test_what_the_run_raises_is_raised_in_the_node():
    def failing() -> Iterator[object]:
        yield events.Warned("x")
        raise errors.DataError("a sentence")

    with pytest.raises(errors.DataError, match="a sentence"):
        watch.follow(job_module.Job(failing).start(), nothing, nothing)


class Server:
    """Takes what PromptServer would send."""

    client_id = "me"

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict]] = []
        self.texts: list[str] = []

    def send_sync(self, event: str, data: dict, sid: str | None = None) -> None:
        json.dumps(data, allow_nan=False)
        self.sent.append((event, data))

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        self.texts.append(text)


class Bar:
    """Takes what ComfyUI's ProgressBar would show."""

    updates: ClassVar[list[tuple]] = []

    def __init__(self, total: int):
        self.current, self.total = 0, total

    def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
        self.current, self.total = value, total or self.total
        Bar.updates.append((value, total, preview))


@pytest.fixture
def server(monkeypatch) -> Server:
    Bar.updates = []
    fake = Server()
    prompt_server = types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=fake))
    monkeypatch.setitem(sys.modules, "server", prompt_server)
    monkeypatch.setitem(sys.modules, "comfy", types.ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.utils", types.SimpleNamespace(ProgressBar=Bar))
    return fake


def test_the_frontend_gets_numbers_that_json_has_words_for(server: Server):
    display = watch.NodeDisplay("5:3")
    display.show(events.Measured((measurement(1, float("nan")), measurement(2))))
    [(event, data)] = server.sent
    assert event == "lazylora.measured" and data["node"] == "5:3"
    assert [each["loss"] for each in data["measurements"]] == [None, 0.1]


def test_steps_move_the_bar_and_the_text(server: Server):
    display = watch.NodeDisplay("7")
    display.show(events.Cached("latents", 2, 5))
    display.show(events.Measured((measurement(3),)))
    display.show(events.Stepped(4, 40, 1))
    assert Bar.updates == [(2, 5, None), (4, 40, None)]
    assert server.texts[0] == "encoding latents: 2/5"
    assert "step 4/40, loss 0.1, d·lr 1.00e-04" in server.texts[1]


def test_previews_go_where_the_bar_stands(server: Server):
    display = watch.NodeDisplay("7")
    display.show(events.Stepped(4, 40, 1))
    picture = Image.new("RGB", (8, 8))
    display.show(events.Sampled(1, "a cat", picture))
    assert Bar.updates[-1] == (4, 40, ("JPEG", picture, 512))


def test_warnings_are_kept_for_the_node(server: Server):
    display = watch.NodeDisplay("7")
    display.show(events.Warned("few steps"))
    assert display.warnings == ["few steps"]
    assert server.sent == [("lazylora.warned", {"node": "7", "message": "few steps"})]


def test_what_the_run_will_take_stays_in_sight(server: Server):
    display = watch.NodeDisplay("7")
    taken = footprint.Footprint(10, 212_000, 2 * 10**9, 10**8, 9 * 10**8)
    display.show(events.Prepared(taken, Path("run")))
    [line] = display.announced
    assert line.startswith("a file of about 212 KB an epoch; about 3 GB of memory")
    assert server.sent == [("lazylora.announced", {"node": "7", "text": line})] and server.texts == [line]


def test_a_spike_and_the_way_back_from_it_reach_the_chart(server: Server):
    display = watch.NodeDisplay("7")
    display.show(events.Spiked(130, 7, 4.0))
    display.show(events.TurnedBack(120, 130))
    assert server.sent == [
        ("lazylora.spiked", {"node": "7", "spikes": [130]}),
        ("lazylora.turned_back", {"node": "7", "step": 120, "total_steps": 130}),
    ]
