"""A real Forge in its own process, and a client for its HTTP interface."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

_MODEL_FOLDERS = ("Stable-diffusion", "Lora", "VAE", "text_encoder")
_AS_IT_IS = ("--skip-prepare-environment", "--skip-version-check", "--skip-python-version-check", "--no-hashing")
_ON_A_CPU = ("--always-cpu", "--all-in-fp32")
_QUIET = ("--no-download-sd-model", "--disable-console-progressbars")


class WebuiError(Exception):
    """The server ended, did not answer, or refused; the message is its own."""


class WebuiClient:
    """Talks to a running A1111 or Forge.

    Its LoRA and model failures are no HTTP errors: it answers 200 with another picture, so compare pictures."""

    def __init__(self, address: str, data: Path, log: Path):
        """address: http://host:port. data: its --data-dir. log: what the server prints."""
        self.address, self.data, self.log = address, data, log

    @property
    def loras(self) -> Path:
        """The folder in which it finds LoRAs."""
        return self.data / "models" / "Lora"

    def get(self, path: str) -> Any:
        """JSON of a GET. Raises WebuiError with the server's own words."""
        return json.loads(self.open(path))

    def post(self, path: str, values: Any = None, timeout: float = 300, headers: dict[str, str] | None = None) -> Any:
        """JSON of a POST of JSON, None for an empty answer. Raises WebuiError with the server's own words."""
        answer = self.open(path, json.dumps({} if values is None else values).encode(), timeout, headers)
        return json.loads(answer) if answer else None

    def txt2img(self, prompt: str = "a cat on a wall", seed: int = 5, **changes: Any) -> Image.Image:
        """The picture of a prompt; small and of few steps unless `changes` say otherwise."""
        return self.pictures(prompt, seed, **changes)[0]

    def pictures(self, prompt: str = "a cat on a wall", seed: int = 5, **changes: Any) -> list[Image.Image]:
        """All pictures that one request gives: a script's grid comes first."""
        small = {"width": 64, "height": 64, "steps": 2, "cfg_scale": 3.0, "sampler_name": "Euler", "save_images": False}
        answer = self.post("/sdapi/v1/txt2img", {"prompt": prompt, "seed": seed, **small, **changes}, timeout=600)
        return [_picture(each) for each in answer["images"]]

    def interrupt(self) -> None:
        """Press Interrupt."""
        self.post("/sdapi/v1/interrupt")

    def progress(self) -> dict[str, Any]:
        """What the progress bar shows: progress, eta_relative, state, textinfo."""
        return self.get("/sdapi/v1/progress?skip_current_image=true")

    def log_tail(self, lines: int = 60) -> str:
        """The end of what the server printed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "the server's last words:\n" + "\n".join(text.splitlines()[-lines:])

    def open(
        self, path: str, body: bytes | None = None, timeout: float = 60, headers: dict[str, str] | None = None
    ) -> bytes:
        """Bytes of an answer to a GET, or to a POST of `body`. Raises WebuiError with the server's own words."""
        typed = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data=body, headers={**typed, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise WebuiError(f"{path}: {error.code} {error.read().decode(errors='replace')}") from None


def make_data_directory(data: Path, extensions: Sequence[Path]) -> Path:
    """A folder for `--data-dir` with empty model folders and the extensions linked into it."""
    for name in _MODEL_FOLDERS:
        (data / "models" / name).mkdir(parents=True, exist_ok=True)
    # the other ways of drawing live previews download a network
    (data / "config.json").write_text(json.dumps({"show_progress_type": "Approx cheap"}))
    for extension in extensions:
        place_extension(data, extension)
    return data


def place_extension(data: Path, extension: Path, name: str = "") -> None:
    """Link an extension's folder into the data directory, under its own name or another."""
    at = data / "extensions" / (name or extension.name)
    at.parent.mkdir(parents=True, exist_ok=True)
    if at.exists():
        return
    try:
        at.symlink_to(extension, target_is_directory=True)
    except OSError:  # Windows lets only developers link
        shutil.copytree(extension, at, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))


@contextmanager
def forge_server(forge: Path, python: str, data: Path, options: Sequence[str] = ("--api",)) -> Iterator[WebuiClient]:
    """A Forge on the CPU with the extensions in `data`, for as long as the block lasts.

    options: "--api" for UI and API, "--nowebui" for the API alone; what else its command line knows."""
    # without this folder, which it would download, its API never appears
    (forge / "repositories" / "stable-diffusion-webui-assets").mkdir(parents=True, exist_ok=True)
    port, log = free_port(), data / "server.log"
    command = [python, "launch.py", "--data-dir", str(data), "--port", str(port), *_AS_IT_IS, *_ON_A_CPU, *_QUIET]
    command += ["--gradio-allowed-path", str(forge)]  # else its page gets none of its own scripts from there
    client = WebuiClient(f"http://127.0.0.1:{port}", data, log)
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, *options], cwd=forge, stdout=output, stderr=subprocess.STDOUT, env=_quiet_environment()
        )
    try:
        _wait_until_up(client, server)
        yield client
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def eventually(attempt: Callable[[], Any], timeout: float, complaint: Callable[[], str]) -> Any:
    """What `attempt` gives as soon as it is true. Raises WebuiError with the complaint when the time is over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = attempt()
        if found:
            return found
        time.sleep(0.1)
    raise WebuiError(complaint())


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_up(client: WebuiClient, server: subprocess.Popen) -> None:
    def answers() -> bool:
        if server.poll() is not None:
            raise WebuiError(f"Forge ended with code {server.returncode}; {client.log_tail()}")
        try:
            client.get("/sdapi/v1/samplers")  # "/" answers much earlier
        except (OSError, WebuiError):
            return False
        return True

    eventually(answers, 300, lambda: f"Forge does not answer; {client.log_tail()}")


def _picture(encoded: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    picture.load()
    return picture


def _quiet_environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
        "GRADIO_ANALYTICS_ENABLED": "0",
    }
