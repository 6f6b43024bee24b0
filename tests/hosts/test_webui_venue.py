"""A1111's and Forge's queue, progress bar and folders, on stand-ins for the few things of theirs that are used."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from trainer_core.hosts.venue import Progress
from trainer_core.hosts.webui import WebuiTurn, WebuiVenue


class State:
    """modules.shared.state."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.interrupted = self.stopping_generation = False
        self.job_count = self.job_no = self.sampling_step = self.sampling_steps = 7
        self.textinfo: str | None = None
        self.pictures: list[Image.Image] = []

    def begin(self, job: str) -> None:
        self.said.append(f"begin {job}")
        self.interrupted, self.job_count = False, -1

    def interrupt(self) -> None:
        self.interrupted = True

    def request_restart(self) -> None:
        self.interrupt()
        self.said.append("restart")

    def end(self) -> None:
        self.said.append("end")

    def assign_current_image(self, picture: Image.Image) -> None:
        self.pictures.append(picture)


class Lock:
    """modules.fifo_lock.FIFOLock: who is let in after a release has left the line, and is not inside yet."""

    def __init__(self) -> None:
        self._lock, self._inner_lock = threading.Lock(), threading.Lock()
        self._pending_threads: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._inner_lock:
            if self._lock.acquire(blocking=False):
                return
            let_in = threading.Event()
            self._pending_threads.append(let_in)
        let_in.wait()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        with self._inner_lock:
            if self._pending_threads:
                self._pending_threads.popleft().set()
            self._lock.release()


@pytest.fixture
def webui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """The host's modules, with its data in `tmp_path / "data"`."""
    data = tmp_path / "data"
    allowed = tmp_path / "pictures"
    for folder in (data / "models" / "Lora", allowed):
        folder.mkdir(parents=True)
    options = SimpleNamespace(lora_dir=str(data / "models" / "Lora"), gradio_allowed_path=[str(allowed)])
    shared = ModuleType("modules.shared")
    shared.state, shared.cmd_opts, shared.total_tqdm = State(), options, SimpleNamespace(clear=lambda: None)
    paths = ModuleType("modules.paths_internal")
    paths.data_path, paths.models_path = str(data), str(data / "models")
    queue = ModuleType("modules.call_queue")
    queue.queue_lock = Lock()
    package = ModuleType("modules")
    package.shared, package.paths_internal, package.call_queue = shared, paths, queue
    for module in (package, shared, paths, queue):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(state=shared.state, lock=queue.queue_lock, data=data, allowed=allowed)


def test_where_only_this_machine_reaches_the_ui_pictures_may_lie_anywhere(webui: SimpleNamespace, tmp_path: Path):
    assert WebuiVenue().allows(tmp_path / "pictures of mine")


def test_others_are_limited_to_the_uis_folders(webui: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules["modules.shared"].cmd_opts, "listen", True, raising=False)
    venue = WebuiVenue()
    assert venue.runs_dir == webui.data / "models" / "Lora"
    assert venue.allows(venue.runs_dir / "cat" / "cat-000001.safetensors")
    assert venue.allows(webui.allowed / "cats")
    assert not venue.allows(tmp_path)
    assert not venue.allows(tmp_path / "data-of-somebody-else")
    assert not venue.allows(webui.allowed / ".." / "secret")
    (webui.allowed / "link").symlink_to(tmp_path)
    assert not venue.allows(webui.allowed / "link" / "secret")


def test_a_turn_holds_the_queue_and_ends_whatever_happens(webui: SimpleNamespace):
    with pytest.raises(ValueError, match="x"), WebuiVenue().turn("cat"):
        assert webui.lock._lock.locked()
        raise ValueError("x")
    assert not webui.lock._lock.locked()
    assert webui.state.said == ["begin cat", "end"]


def test_whoever_waits_is_inside_before_the_next_turn_begins(webui: SimpleNamespace):
    order: list[str] = []

    def generate() -> None:
        with webui.lock:
            order.append("picture")
            time.sleep(0.01)

    for _ in range(20):
        with WebuiVenue().turn("cat") as turn:
            waiting = threading.Thread(target=generate)
            waiting.start()
            while not turn.is_awaited():
                time.sleep(0.001)
        with WebuiVenue().turn("cat"):
            order.append("training")
        waiting.join()
    assert order == ["picture", "training"] * 20


def test_a_turn_knows_who_waits_and_who_interrupts(webui: SimpleNamespace):
    with WebuiVenue().turn("cat") as turn:
        assert not turn.is_awaited()
        webui.lock._pending_threads.append(threading.Event())
        assert turn.is_awaited()
        assert not turn.is_interrupted()
        webui.state.interrupted = True
        assert turn.is_interrupted()
        webui.state.interrupted, webui.state.stopping_generation = False, True
        assert turn.is_interrupted()


def test_reload_ui_keeps_the_run(webui: SimpleNamespace):
    reload_button = webui.state.request_restart  # Gradio has it from when the page was built
    with WebuiVenue().turn("cat") as turn:
        reload_button()
        assert webui.state.said[-1] == "restart"
        assert not turn.is_interrupted()
        webui.state.interrupt()
        assert turn.is_interrupted()
    webui.state.interrupted = False
    reload_button()
    assert webui.state.interrupted, "a generation is interrupted as ever"


def test_the_progress_bar_is_never_below_zero(webui: SimpleNamespace):
    """begin() leaves a job_count of -1 and the last generation's steps; the bar would show the quotient of the two."""
    turn = WebuiTurn(webui.state, webui.lock)
    picture = Image.new("RGB", (8, 8))
    for step in range(1, 4):
        turn.show(Progress(step, 12, f"step {step}", picture))
        assert (webui.state.job_no, webui.state.job_count) == (step, 12)
        assert (webui.state.sampling_step, webui.state.sampling_steps) == (0, 0)
    assert webui.state.textinfo == "step 3"
    assert webui.state.pictures == [picture], "the same picture is shown once"


def test_new_epochs_are_told_to_the_hosts_own_networks_alone(webui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    WebuiVenue().epochs_changed()
    listed: list[int] = []
    monkeypatch.setitem(sys.modules, "networks", SimpleNamespace(list_available_networks=lambda: listed.append(1)))
    WebuiVenue().epochs_changed()
    assert listed == [1]
    monkeypatch.setitem(sys.modules, "networks", SimpleNamespace())  # another extension's
    WebuiVenue().epochs_changed()


def test_it_says_which_of_the_two_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "backend.memory_management", raising=False)
    assert WebuiVenue().name == "A1111"
    monkeypatch.setitem(sys.modules, "backend.memory_management", SimpleNamespace())
    assert WebuiVenue().name == "Forge"
