"""A server without a network: requests as an ASGI app gets them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.studio.conftest import pictures, recipe, studio, venue  # noqa: F401  (fixtures)
from trainer_core.web_api import add_routes

HERE = "127.0.0.1:7860"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Client:
    """Asks an ASGI app. address: where the requests come from."""

    app: Any
    address: str = "127.0.0.1"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Host": HERE, "Origin": f"http://{HERE}"})

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, b"", headers)

    def post(self, path: str, values: Any = None, content: bytes | None = None, **headers: str) -> Answer:
        body = json.dumps({} if values is None else values).encode() if content is None else content
        return self._ask("POST", path, body, {"Content_Type": "application/json", **headers})

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """A header that is given as "" is not sent; its name is written with _ for -."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        raw = [(name.lower().encode(), value.encode()) for name, value in sent.items() if value]
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": f"/lazylora/{path}",
            "raw_path": f"/lazylora/{path}".encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": raw,
            "client": (self.address, 50000),
            "server": ("127.0.0.1", 7860),
        }
        return asyncio.run(_answered(self.app, scope, body))


async def _answered(app: Any, scope: dict, body: bytes) -> Answer:
    chunks = [body[start : start + 65536] for start in range(0, len(body), 65536)] or [b""]
    said: list[dict] = []

    async def receive() -> dict:
        chunk = chunks.pop(0) if chunks else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: dict) -> None:
        said.append(message)

    await app(scope, receive, send)
    (start,) = (each for each in said if each["type"] == "http.response.start")
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], headers, b"".join(each.get("body", b"") for each in said))


def plain_app() -> Any:
    """An app with a page that would take every address, as Gradio's may."""
    applications = pytest.importorskip("starlette.applications", reason="needs starlette: pip install starlette")
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def anything(request):
        return PlainTextResponse("the UI's own page")

    return applications.Starlette(routes=[Route("/{rest:path}", anything, methods=["GET", "POST"])])


@pytest.fixture
def make_client(studio) -> Callable[..., Client]:  # noqa: F811
    def make(is_public: bool = False, is_welcome: Any = None, **options: Any) -> Client:
        app = plain_app()
        add_routes(app, studio, is_public, is_welcome)
        return Client(app, **options)

    return make


@pytest.fixture
def client(make_client) -> Client:
    return make_client()
