"""Who gets through to the page and to Gradio behind it: this computer's own user, or whoever has the password."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..errors import ConfigError

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

_READING = ("GET", "HEAD", "OPTIONS")
_HERE = ("localhost", "127.0.0.1", "[::1]")


class Doorkeeper:
    """ASGI middleware. Changes are taken from the server's own pages only, whatever Gradio would let through.

    Without a login the server is meant for its own computer, and answers to that one's names alone, so that no other
    site's name can lead here (DNS rebinding). With one, every request has to bring it (HTTP Basic)."""

    def __init__(self, app: App, login: str = ""):
        """login: `name:password`, "" for none. Raises ConfigError where one half of it is missing."""
        name, colon, password = login.partition(":")
        if login and not (name and colon and password):
            raise ConfigError("--listen takes NAME:PASSWORD, which other computers are asked for; give both")
        self._app = app
        self._login = login.encode()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._is_known(headers):
            await _refuse(scope, send, 401 if self._login else 403)
        elif not _is_reading(scope) and not _is_from_own_page(headers):
            await _refuse(scope, send, 403)
        else:
            await self._app(scope, receive, send)

    def _is_known(self, headers: MutableMapping[str, str]) -> bool:
        if not self._login:
            return _without_port(headers.get("host", "")) in _HERE
        kind, _, given = headers.get("authorization", "").partition(" ")
        try:
            return kind.lower() == "basic" and hmac.compare_digest(base64.b64decode(given), self._login)
        except (binascii.Error, ValueError):
            return False


def _is_reading(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in _READING


def _is_from_own_page(headers: MutableMapping[str, str]) -> bool:
    host, origin = headers.get("host", ""), headers.get("origin")
    return origin is None or origin in (f"http://{host}", f"https://{host}")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _refuse(scope: Scope, send: Any, status: int) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    said = {401: "log in", 403: "only pages of this very server may ask for this"}[status]
    body = f'{{"error": "{said}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"www-authenticate", b'Basic realm="LazyLoRA"')] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
