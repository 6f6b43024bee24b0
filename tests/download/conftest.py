"""A small booru on loopback, as Danbooru's API answers."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image


@dataclass
class Booru:
    """What the server gives: posts for the API, and bodies or redirects by path. asked: the paths in order."""

    port: int = 0
    posts: list[dict] = field(default_factory=list)
    files: dict[str, bytes | str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, number: int, body: bytes | str, tags: str = "1girl long_hair", **more: object) -> None:
        """Add a post whose file is `body`, or lies where `body` says."""
        path = f"/data/{number}.png"
        self.files[path] = body
        values = {"id": number, "file_url": self.root + path, "file_ext": "png", "md5": f"{number:032}"}
        others = {f"tag_string_{each}": "" for each in ("artist", "character", "copyright", "meta")}
        tagged = {"tag_string": tags, "tag_string_general": tags, **others}
        self.posts.append(
            {**values, **tagged, "created_at": "2026-01-01T00:00:00Z", "rating": "g", "uploader_id": 1, **more}
        )

    def gallery_config(self, folder: Path) -> Path:
        """gallery-dl's settings that make this server a Danbooru."""
        own = {"root": self.root, "pattern": f"127\\.0\\.0\\.1:{self.port}"}
        fast = {"sleep-request": 0, "sleep": 0, "retries": 0, "Danbooru": {"loopback": own}}
        path = folder / "gallery-dl.json"
        path.write_text(json.dumps({"extractor": fast}))
        return path


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """The bytes of a small picture, different for each seed."""

    def drawn(seed: int = 0, format: str = "PNG") -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (80, 64), (seed * 40 % 256, 90, 10)).save(stream, format)
        return stream.getvalue()

    return drawn


@pytest.fixture
def booru() -> Iterator[Booru]:
    """The server, while the test runs."""
    state = Booru()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            state.asked.append(self.path)
            if path == "/posts.json":
                self._send(json.dumps(state.posts if "b" not in self.path.partition("page=")[2] else []).encode())
            elif path in state.files and isinstance(state.files[path], bytes):
                self._send(state.files[path])
            elif path in state.files:
                self.send_response(302)
                self.send_header("Location", str(state.files[path]))
                self.end_headers()
            else:
                self.send_error(404)

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join(10)
