"""A real Chromium without a window, driven through its own pipe: no driver program and no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """The browser's program, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. `run` evaluates JavaScript in it."""

    def __init__(self, to_browser: int, from_browser: int):
        self._out, self._in = to_browser, os.fdopen(from_browser, "rb", buffering=0)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []  # what scripts did not catch, and dialogs that they opened
        self._attach()

    def open(self, address: str) -> None:
        """Go there."""
        self._ask("Page.navigate", url=address)

    def run(self, script: str, timeout: float = 60) -> Any:
        """The value of an expression, awaited, as JSON. Raises AssertionError with what the page threw."""
        ask = {"expression": script, "awaitPromise": True, "returnByValue": True}
        found = self._ask("Runtime.evaluate", timeout, **ask)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, script: str, timeout: float = 90) -> Any:
        """Evaluate the expression until it gives something true, and give that."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := self.run(script):
                return found
            time.sleep(0.2)
        raise AssertionError(f"never true in {timeout} s: {script}; the page's errors: {self.errors}")

    def press(self, key: str) -> None:
        """A key of the keyboard, by its name."""
        codes = {"Enter": 13, "Escape": 27}
        for kind in ("rawKeyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def write(self, text: str) -> None:
        """Text, as if typed into what has the focus."""
        self._ask("Input.insertText", text=text)

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"])

    def _attach(self) -> None:
        targets = self._ask("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable")
        self._ask("Runtime.enable")

    def _ask(self, method: str, timeout: float = 60, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next_message()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event.get("method") == "Page.javascriptDialogOpening":
            self.errors.append(f"dialog: {event['params']['message']}")

    def _next_message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = self._in.read(65536)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def chromium_page(program: str, profile: Path, size: tuple[int, int] = (1500, 950)) -> Iterator[Page]:
    """A tab of a browser with an empty profile, for as long as the block lasts."""
    commands_in, commands_out = os.pipe()
    answers_in, answers_out = os.pipe()

    def pipes_in_place() -> None:  # Chromium reads from 3 and writes to 4
        read, write = os.dup(commands_in), os.dup(answers_out)
        os.dup2(read, 3)
        os.dup2(write, 4)

    command = [
        *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
        *("--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars", f"--user-data-dir={profile}"),
        *(f"--window-size={size[0]},{size[1]}", "--remote-debugging-pipe", "about:blank"),
    ]
    with (profile.with_suffix(".log")).open("wb") as log:
        browser = subprocess.Popen(command, preexec_fn=pipes_in_place, close_fds=False, stdout=log, stderr=log)
    os.close(commands_in)
    os.close(answers_out)
    try:
        yield Page(commands_out, answers_in)
    finally:
        browser.terminate()
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
        os.close(commands_out)
