"""The few things that Gradio 3.41, 4 and 6 call by other names."""

from __future__ import annotations

import inspect
import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import ConfigError, HostError


def gradio() -> Any:
    """The Gradio that is installed. Raises HostError, naming the cure, where there is none."""
    try:
        import gradio
    except ImportError:
        raise HostError('the page needs Gradio, which is not installed; run: pip install "lazylora[webui]"') from None
    return gradio


def script(event: Any, javascript: str) -> dict[str, str]:
    """The argument by which an event, such as `blocks.load`, runs JavaScript in the page: `js`, in Gradio 3 `_js`."""
    return {"js" if "js" in inspect.signature(event).parameters else "_js": javascript}


def private(event: Any) -> dict[str, Any]:
    """The argument that keeps an event out of Gradio's list of public endpoints."""
    return (
        {"api_visibility": "private"}
        if "api_visibility" in inspect.signature(event).parameters
        else {"api_name": False}
    )


def uploaded(file: Any) -> Path:
    """Where Gradio has put a file that somebody dropped; older versions give an object with its name.

    Raises ConfigError for anything that lies elsewhere, as a request can name any file."""
    path = Path(str(getattr(file, "name", file))).resolve()
    places = [tempfile.gettempdir(), os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()]
    if not any(path.is_relative_to(Path(place).resolve()) for place in places):
        raise ConfigError("this file was not uploaded here; drop it again")
    return path
