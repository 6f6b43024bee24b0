"""The page as a place to train in: its models, its line, its folders, and who gets through to it."""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
import time
from pathlib import Path

import pytest

from trainer_core.cli import main
from trainer_core.errors import ConfigError, HostError
from trainer_core.standalone.doorkeeper import Doorkeeper
from trainer_core.standalone.line import Line
from trainer_core.standalone.models import TINY_WORLD, beginning_with, offered_models
from trainer_core.standalone.venue import StandaloneVenue

SECONDS = 20  # after which a test gives up


def test_those_who_wait_are_served_in_their_order():
    line, served = Line(), []

    def wait(name: str) -> None:
        with line.place():
            served.append(name)

    with line.place():
        assert not line.is_awaited()
        threads = []
        for name in "abc":
            threads.append(threading.Thread(target=wait, args=(name,)))
            threads[-1].start()
            deadline = time.monotonic() + SECONDS
            while len(line._places) < len(threads) + 1 and time.monotonic() < deadline:
                time.sleep(0.01)
        assert line.is_awaited() and served == []
    for thread in threads:
        thread.join(SECONDS)
    assert served == ["a", "b", "c"] and not line.is_awaited()


def test_models_of_a_folder_are_offered(tmp_path: Path):
    for name in ("b.safetensors", "A.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "model_index.json").touch()
    assert list(offered_models(tmp_path)) == ["A.safetensors", "b.safetensors", "parts", TINY_WORLD]
    assert next(iter(offered_models(tmp_path, tmp_path / "b.safetensors"))) == "b.safetensors"
    with pytest.raises(ConfigError, match="--models"):
        offered_models(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="does not exist"):
        offered_models(None, tmp_path / "nowhere")


def test_a_model_begins_with_what_suits_it(tmp_path: Path):
    assert beginning_with(offered_models()[TINY_WORLD])["dataset"]["resolution"] == 64
    (tmp_path / "xl" / "text_encoder_2").mkdir(parents=True)
    assert beginning_with(tmp_path / "xl")["dataset"]["resolution"] == 1024
    (tmp_path / "broken.safetensors").write_bytes(b"?")
    assert beginning_with(tmp_path / "broken.safetensors") == {}


def test_a_page_for_others_names_no_folder_but_its_own(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "out").symlink_to("/etc")
    closed = StandaloneVenue({}, tmp_path / "runs", [tmp_path / "pictures"])
    assert closed.allows(tmp_path / "pictures" / "cats") and closed.allows(tmp_path / "runs" / "cat")
    for path in ("/etc", tmp_path, tmp_path / "pictures" / ".." / "..", tmp_path / "pictures" / "out"):
        assert not closed.allows(Path(path)), path
    assert StandaloneVenue({}, tmp_path).allows(Path("/etc"))


def test_an_unknown_model_is_refused(tmp_path: Path):
    with pytest.raises(HostError, match="start the page with --models"):
        StandaloneVenue({}, tmp_path).host()


def test_without_gradio_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["ui"]) == 1
    assert 'pip install "lazylora[webui]"' in capsys.readouterr().err


# -- who gets through


def status(login: str, method: str = "GET", kind: str = "http", **headers: str) -> int:
    """What the doorkeeper answers; 200 is the page behind it."""
    said: list[dict] = []

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        said.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "headers": given}
    asyncio.run(Doorkeeper(page, login)(scope, None, send))
    return said[0].get("status", said[0].get("code"))


def basic(words: str) -> str:
    return "Basic " + base64.b64encode(words.encode()).decode()


@pytest.mark.parametrize(
    ("wanted", "request_"),
    [
        (200, {"host": "localhost:7870"}),
        (200, {"host": "127.0.0.1:7870", "method": "POST", "origin": "http://127.0.0.1:7870"}),
        (200, {"host": "[::1]:7870"}),
        (403, {"host": "evil.example:7870"}),
        (403, {}),
        (403, {"host": "localhost:7870", "method": "POST", "origin": "http://evil.example"}),
        (403, {"host": "localhost:7870", "method": "POST", "origin": "null"}),
        (1008, {"host": "localhost:7870", "kind": "websocket", "origin": "http://evil.example"}),
    ],
)
def test_without_a_login_only_this_computer_gets_in(wanted: int, request_: dict):
    assert status("", **request_) == wanted


@pytest.mark.parametrize(
    ("wanted", "given"), [(200, basic("me:secret")), (401, basic("me:wrong")), (401, "Basic ?"), (401, "")]
)
def test_with_a_login_everybody_has_to_give_it(wanted: int, given: str):
    assert status("me:secret", host="192.168.0.2:7870", **({"authorization": given} if given else {})) == wanted


@pytest.mark.parametrize("login", ["me", "me:", ":secret"])
def test_half_a_login_is_refused(login: str):
    with pytest.raises(ConfigError, match="NAME:PASSWORD"):
        Doorkeeper(lambda *_: None, login)  # type: ignore[arg-type]
