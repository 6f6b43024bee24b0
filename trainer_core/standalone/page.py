"""Serves the tab as a page of its own: `python -m trainer_core ui`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import HostError
from ..studio import Studio, the_studio
from ..tab import build_tab
from ..tab.gradio_versions import gradio, script
from ..web_api import add_routes
from .doorkeeper import Doorkeeper
from .models import beginning_with, offered_models
from .venue import StandaloneVenue

_HERE = "127.0.0.1"
_EVERYWHERE = "0.0.0.0"
_LOAD_THE_LIVE_PARTS = """() => {
  document.documentElement.classList.add("lazylora-page");
  import("/lazylora/web/tab.js");
}"""


def serve(models: Path | None, model: Path | None, output: Path, port: int, login: str = "") -> None:
    """Serve until Ctrl-C. models, model: see `offered_models`. output: where runs are made. login: `name:password` lets
    other computers in, who may name folders inside the present one only; "" lets in none.

    Raises ConfigError for models that are not there, HostError without Gradio or where the port is taken."""
    gradio()  # before anything else is done: without it there is no page
    import uvicorn

    offered = offered_models(models, model)
    studio = the_studio(lambda: StandaloneVenue(offered, output, [Path.cwd()] if login else None))
    beginnings = {name: beginning_with(place) for name, place in offered.items()}
    app = Doorkeeper(page_app(studio, beginnings, is_public=bool(login)), login)
    print(f"LazyLoRA is at http://{_HERE}:{port}  (Ctrl-C ends it; what was trained is kept)", flush=True)
    try:
        uvicorn.run(app, host=_EVERYWHERE if login else _HERE, port=port, log_level="warning")
    except SystemExit as error:  # uvicorn's way of saying so
        raise HostError(f"the page cannot be served at port {port}; give another --port") from error


def page_app(studio: Studio, beginnings: Mapping[str, Mapping[str, Any]], is_public: bool = False) -> Any:
    """The ASGI application: the HTTP API, and the tab at /. beginnings: see `build_tab`. is_public: for other
    computers, too, with a doorkeeper before it."""
    import fastapi

    gr = gradio()
    app = fastapi.FastAPI(title="LazyLoRA", docs_url=None, redoc_url=None, openapi_url=None)
    add_routes(app, studio, is_public, (lambda _: True) if is_public else None)
    blocks = build_tab(studio, beginnings)
    with blocks:
        blocks.load(None, **script(blocks.load, _LOAD_THE_LIVE_PARTS))
    return gr.mount_gradio_app(app, blocks, path="/")
