"""LazyLoRA as an extension of A1111 and Forge: what the shim in scripts/ hands to the UI's callbacks.

Each can be called again, as Reload UI does; the studio, with the run in progress, is the process's."""

from __future__ import annotations

import importlib.util
from typing import Any

from .hosts.webui import WebuiVenue
from .hosts.webui_axis import add_axes as add_axes_to_plot
from .hosts.webui_handover import lay_out_handover
from .hosts.webui_visitors import is_public, is_welcome
from .studio import Studio, the_studio
from .tab import build_tab
from .tab.gradio_versions import gradio
from .tab.markup import hint
from .web_api import add_routes as add_routes_to
from .web_api.gate import is_local

TITLE, ELEMENT = "LazyLoRA", "lazylora"

# What install.py adds, and what does not work without it.
_SMALL_PACKAGES = {
    "tomlkit": "recipes and datasets in TOML",
    "matplotlib": "charts as pictures",
    "dadaptation": "its optimizers that are not built in",
    "prodigyopt": "its optimizers that are not built in",
}


def add_axes() -> None:
    """Put epoch and weight on the UI's own X/Y/Z plot."""
    add_axes_to_plot(newest_epochs)


def tabs() -> list[tuple[Any, str, str]]:
    """The tab, and in it the hidden button that leads to txt2img and a line about what is not installed."""
    page = build_tab(studio())
    with page:
        lay_out_handover()
        gradio().HTML(hint(missing_packages()), elem_id="lazylora_missing")
    return [(page, TITLE, ELEMENT)]


def add_routes(page: Any, app: Any) -> None:
    """Put /lazylora/ beside the UI's own routes. page: Gradio's, None where the UI runs without one."""

    def may_ask(request: Any) -> bool:
        return is_local(request.headers, request.client.host if request.client else "") or is_welcome(request)

    add_routes_to(app, studio(), is_public(), may_ask if is_public() else None)


def missing_packages() -> str:
    """What is not installed, and the cure, in a sentence; "" where all is there."""
    missing = [f"{name} ({use})" for name, use in _SMALL_PACKAGES.items() if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"Not installed: {', '.join(missing)}. Everything else works; to add them, restart the UI with a network, or "
        "run this extension's install.py with the UI's Python."
    )


def newest_epochs() -> list[str]:
    """The file stems of the newest run's epochs, in order; a run that has only begun has none yet."""
    return next(([epoch["stem"] for epoch in run["epochs"]] for run in studio().runs() if run["epochs"]), [])


def studio() -> Studio:
    """The process's studio, on the model that the UI has loaded."""
    return the_studio(WebuiVenue)
