"""A real ComfyUI in its own process, and a client for its HTTP interface."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

_MODEL_FOLDERS = ("checkpoints", "loras", "vae", "text_encoders", "diffusion_models", "embeddings")


class ComfyError(Exception):
    """ComfyUI refused a graph, or a node of it failed; the message is ComfyUI's own."""


@dataclass(frozen=True)
class Finished:
    """A graph that has ended. outputs: node id → what it showed (`{"images": [...]}`)."""

    prompt_id: str
    status: str  # "success" or "error"; an interrupted graph is an "error"
    outputs: dict[str, dict[str, Any]]
    messages: list[tuple[str, dict[str, Any]]]

    @property
    def was_interrupted(self) -> bool:
        """Whether somebody pressed cancel."""
        return any(kind == "execution_interrupted" for kind, _ in self.messages)

    @property
    def error(self) -> str:
        """What the node that failed said, or "" when none did."""
        for kind, data in self.messages:
            if kind == "execution_error":
                return str(data["exception_message"])
        return ""

    @property
    def cached_nodes(self) -> set[str]:
        """Ids of the nodes whose result was remembered from an earlier graph."""
        return {node for kind, data in self.messages if kind == "execution_cached" for node in data["nodes"]}


class ComfyClient:
    """Talks to a running ComfyUI. A graph is API format: {"1": {"class_type": …, "inputs": {"model": ["2", 0]}}}."""

    def __init__(self, address: str, log: Path):
        """address: http://host:port. log: what the server prints."""
        self.address = address
        self.log = log

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        return json.loads(self._open(path))

    def post(self, path: str, values: Any) -> Any:
        """JSON of a POST of JSON, None for an empty answer. Raises ComfyError with the server's own words."""
        body = self._open(path, json.dumps(values).encode())
        return json.loads(body) if body else None

    def object_info(self, node: str) -> dict[str, Any]:
        """The node's inputs and outputs as the frontend sees them."""
        return self.get(f"/object_info/{node}")[node]

    def queue(self, graph: dict[str, Any]) -> str:
        """Queue a graph; gives its prompt id. Raises ComfyError where it is invalid."""
        return self.post("/prompt", {"prompt": graph, "client_id": "tests"})["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 300) -> Finished:
        """Wait for a graph to end, one way or the other."""

        def history() -> dict[str, Any] | None:
            return self.get(f"/history/{prompt_id}").get(prompt_id)

        found = _eventually(history, timeout, lambda: f"graph {prompt_id} still runs; {self.log_tail()}")
        status = found["status"]
        messages = [(kind, data) for kind, data in status["messages"]]
        return Finished(prompt_id, status["status_str"], found["outputs"], messages)

    def run(self, graph: dict[str, Any], timeout: float = 300) -> Finished:
        """Queue a graph and wait for it. Raises ComfyError with the failed node's words."""
        finished = self.wait(self.queue(graph), timeout)
        if finished.status != "success":
            raise ComfyError(finished.error or f"interrupted: {finished.messages}")
        return finished

    def interrupt(self) -> None:
        """Press cancel."""
        self.post("/interrupt", {})

    def images(self, finished: Finished, node: str) -> list[Image.Image]:
        """The pictures that an output node of a finished graph shows."""
        return [self.view(each) for each in finished.outputs[node]["images"]]

    def view(self, file: dict[str, str]) -> Image.Image:
        """One picture by its {"filename", "subfolder", "type"}."""
        picture = Image.open(io.BytesIO(self._open("/view?" + urllib.parse.urlencode(file))))
        picture.load()
        return picture

    def log_tail(self, lines: int = 40) -> str:
        """The end of what the server printed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "the server's last words:\n" + "\n".join(text.splitlines()[-lines:])

    def _open(self, path: str, body: bytes | None = None) -> bytes:
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise ComfyError(f"{path}: {error.code} {error.read().decode(errors='replace')}") from None


def make_base_directory(base: Path, packs: list[Path]) -> Path:
    """A folder for `--base-directory` with empty model folders and the node packs linked into custom_nodes."""
    for name in _MODEL_FOLDERS:
        (base / "models" / name).mkdir(parents=True, exist_ok=True)
    for name in ("custom_nodes", "input", "output", "temp", "user", "frontend"):
        (base / name).mkdir(exist_ok=True)
    (base / "frontend" / "index.html").write_text("<html></html>")
    for pack in packs:
        _place(pack, base / "custom_nodes" / pack.name)
    return base


@contextmanager
def comfy_server(comfy: Path, python: str, base: Path, options: tuple[str, ...] = ()) -> Iterator[ComfyClient]:
    """A ComfyUI on the CPU that knows no custom nodes but those in `base`, for as long as the block lasts."""
    port, log = _free_port(), base / "server.log"
    command = [
        *(python, str(comfy / "main.py"), "--cpu", "--base-directory", str(base), "--port", str(port)),
        *("--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--front-end-root", str(base / "frontend")),
        *("--disable-all-custom-nodes", "--whitelist-custom-nodes"),
        *sorted(each.name for each in (base / "custom_nodes").iterdir()),
        *options,
    ]
    client = ComfyClient(f"http://127.0.0.1:{port}", log)
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=comfy, stdout=output, stderr=subprocess.STDOUT, env=_quiet_environment())
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


def _wait_until_up(client: ComfyClient, server: subprocess.Popen) -> None:
    def answers() -> bool:
        if server.poll() is not None:
            raise ComfyError(f"ComfyUI ended with code {server.returncode}; {client.log_tail()}")
        try:
            client.get("/system_stats")
        except OSError:
            return False
        return True

    _eventually(answers, 240, lambda: f"ComfyUI does not answer; {client.log_tail()}")


def _eventually(attempt: Callable[[], Any], timeout: float, complaint: Callable[[], str]) -> Any:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = attempt()
        if found:
            return found
        time.sleep(0.1)
    raise ComfyError(complaint())


def _place(pack: Path, at: Path) -> None:
    if at.exists():
        return
    try:
        at.symlink_to(pack, target_is_directory=pack.is_dir())
    except OSError:  # Windows lets only developers link
        if pack.is_dir():
            shutil.copytree(pack, at, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))
        else:
            shutil.copy(pack, at)


def _quiet_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
