"""The endpoints as routes of a Starlette, FastAPI or Gradio app, of any version since Starlette 0.26."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, LazyLoraError
from ..studio import Studio
from ..studio.runs import NotThere
from .endpoints import CHANGING, READING, Answering, Asked, File
from .gate import Gate
from .origin import Refusal, refusal_to_change

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

ROOT = "/lazylora/"
_LARGEST_BODY = 1024 * 1024
_LONGEST_WAIT, _BETWEEN_LOOKS = 25.0, 0.1  # seconds
_SAFE = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}


class _Refused(Exception):
    def __init__(self, refusal: Refusal):
        super().__init__(refusal.said)
        self.refusal = refusal


def add_routes(
    app: Any, studio: Studio, is_public: bool = False, is_welcome: Callable[[Request], bool] | None = None
) -> None:
    """Put the endpoints before the app's own routes, so that none of these, which may take any path, hides them.

    app: has Starlette's `router`. is_public: whether other machines reach the server, by address or tunnel.
    is_welcome: the host's own check of who asks; without one a public server answers nobody."""
    from starlette.routing import Route

    gate = Gate(is_public, is_welcome)
    routes = [Route(ROOT + path, _handler(studio, gate, answer), methods=["GET"]) for path, answer in READING.items()]
    routes += [
        Route(ROOT + path, _handler(studio, gate, answer, may_change=True), methods=["POST"])
        for path, answer in CHANGING.items()
    ]
    app.router.routes[:0] = routes


def _handler(
    studio: Studio, gate: Gate, answer: Answering, may_change: bool = False
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            _require_entry(gate, request, may_change)
            body = await _body(request) if may_change else {}
            await _wait_for_news(studio, request.query_params)
            asked = Asked(request.path_params, request.query_params, body)
            return _response(await asyncio.to_thread(answer, studio, asked))
        except _Refused as refused:
            return _error(refused.refusal)
        except NotThere as error:
            return _error(Refusal(404, str(error)))
        except LazyLoraError as error:
            return _error(Refusal(400, str(error)))
        except Exception as error:
            logging.getLogger(__name__).warning("LazyLoRA: %s failed", request.url.path, exc_info=True)
            return _error(Refusal(500, f"something went wrong ({type(error).__name__}); the server's log says more"))

    return handle


def _require_entry(gate: Gate, request: Request, may_change: bool) -> None:
    refusal = gate.refusal(request, request.headers, request.client.host if request.client else "")
    if refusal is None and may_change:
        refusal = refusal_to_change(request.headers)
    if refusal is not None:
        raise _Refused(refusal)


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object in a request; nothing beyond what is allowed is kept."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _LARGEST_BODY:
            raise _Refused(Refusal(413, "the request is larger than 1 MiB, which no settings are"))
    try:
        values = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError("the request holds no JSON object; send {} where nothing is to be said")
    return values


async def _wait_for_news(studio: Studio, query: Mapping[str, str]) -> None:
    """With `?revision=N&wait=SECONDS`: until the status is another than that, or the time is over."""
    asked = Asked({}, query, {})
    seconds = min(_LONGEST_WAIT, asked.number("wait"))
    end = time.monotonic() + seconds
    while time.monotonic() < end and studio.revision == asked.number("revision"):
        await asyncio.sleep(_BETWEEN_LOOKS)


def _response(answer: Any) -> Response:
    from starlette.responses import Response

    if isinstance(answer, File):
        kept = f"private, max-age={answer.seconds}" if answer.seconds else "no-cache"
        return Response(answer.content, media_type=answer.content_type, headers={**_SAFE, "Cache-Control": kept})
    return _json(answer, 200)


def _error(refusal: Refusal) -> Response:
    return _json({"error": refusal.said}, refusal.status)


def _json(values: Any, status: int) -> Response:
    from starlette.responses import Response

    content = json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    headers = {**_SAFE, "Cache-Control": "no-store"}
    return Response(content, status, headers=headers, media_type="application/json")
