"""What can be asked for over HTTP, and who answers it; docs/http-api.md says it to people.

Answers are JSON values, or a `File`. Errors are LazyLoraError, which becomes {"error": sentence}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..studio import Studio
from ..studio.recipe_room import read_recipe
from ..studio.runs import NotThere

_WEB = Path(__file__).resolve().parents[2] / "web"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
WEB_FILES = (
    *("browser.css", "chart.js", "elements.js", "tab.css", "tab.js"),
    *("tab_epochs.js", "tab_run.js", "tab_server.js", "tags.js"),
)


@dataclass(frozen=True)
class Asked:
    """A request. of: what the path names. query: what stands behind its question mark. body: a POST's JSON object."""

    of: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]

    def given(self, name: str, kind: type, default: Any = ...) -> Any:
        """A value of the body. Raises ConfigError where it is missing without a default, or of another kind."""
        value = self.body.get(name, default)
        if value is default and default is not ...:
            return default
        is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not is_right:
            raise ConfigError(f'"{name}" is {"missing" if value is ... else "of the wrong kind"}; give {_KINDS[kind]}')
        return value

    def number(self, name: str, default: int = 0) -> int:
        """A whole number of the query. Raises ConfigError for anything else."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ConfigError(f'"{name}" takes a whole number, not "{text[:40]}"')
        return int(text)


_KINDS = {str: "text", int: "a whole number", bool: "true or false", dict: "an object"}


@dataclass(frozen=True)
class File:
    """An answer that is no JSON. seconds: for which a browser may keep it."""

    content: bytes
    content_type: str
    seconds: int


Answering = Callable[[Studio, Asked], Any]


def _status(studio: Studio, asked: Asked) -> Any:
    return studio.status()


def _events(studio: Studio, asked: Asked) -> Any:
    if run := asked.query.get("run"):
        return studio.run_curve(run, asked.number("after"))
    return studio.curve(asked.query.get("entry") or None, asked.number("after"))


def _runs(studio: Studio, asked: Asked) -> Any:
    return {"runs": studio.runs()}


def _epochs(studio: Studio, asked: Asked) -> Any:
    return {"epochs": studio.epochs(asked.query.get("run", ""))}


def _compare(studio: Studio, asked: Asked) -> Any:
    return {"differences": studio.differences(asked.query.get("first", ""), asked.query.get("second", ""))}


def _models(studio: Studio, asked: Asked) -> Any:
    return {"models": list(studio.venue.models())}


def _preview(studio: Studio, asked: Asked) -> Any:
    return File(studio.preview(asked.of["id"]), "image/png", seconds=3600)


def _sheet(studio: Studio, asked: Asked) -> Any:
    return File(studio.sheet([run for run in asked.query.get("runs", "").split(",") if run]), "image/png", seconds=0)


def _web(studio: Studio, asked: Asked) -> Any:
    name = asked.of["name"]
    try:
        if name in WEB_FILES:
            return File((_WEB / name).read_bytes(), _TYPES[Path(name).suffix], seconds=0)
    except OSError:
        pass
    raise NotThere("there is no such file here")


def _start(studio: Studio, asked: Asked) -> Any:
    values, model, title = asked.given("settings", dict), asked.given("model", str, ""), asked.given("title", str, "")
    return {"id": studio.enqueue(values, model, title)}


def _stop(studio: Studio, asked: Asked) -> Any:
    studio.stop()
    return studio.status()


def _resume(studio: Studio, asked: Asked) -> Any:
    if run := asked.given("run", str, ""):
        return {"id": studio.resume_run(run, asked.given("model", str, ""))}
    studio.resume(asked.given("id", str))
    return studio.status()


def _queue_start(studio: Studio, asked: Asked) -> Any:
    studio.start()
    return studio.status()


def _queue_move(studio: Studio, asked: Asked) -> Any:
    studio.move(asked.given("id", str), asked.given("position", int))
    return studio.status()


def _queue_remove(studio: Studio, asked: Asked) -> Any:
    studio.remove(asked.given("id", str))
    return studio.status()


def _promote(studio: Studio, asked: Asked) -> Any:
    run, number, name = asked.given("run", str), asked.given("number", int), asked.given("final_name", str)
    return {"stem": studio.promote(run, number, name, asked.given("notes", str, "")).stem}


def _delete(studio: Studio, asked: Asked) -> Any:
    if not asked.given("confirmed", bool, False):
        raise ConfigError('deleting cannot be undone; say "confirmed": true')
    number = asked.body.get("number")
    studio.delete(asked.given("run", str), None if number is None else asked.given("number", int))
    return {"runs": studio.runs()}


def _recipe(studio: Studio, asked: Asked) -> Any:
    text, file, preset = (asked.given(name, str, "") for name in ("text", "file", "preset"))
    return read_recipe(text, file, preset, studio.venue)


def _outlook(studio: Studio, asked: Asked) -> Any:
    values, with_memory = asked.given("settings", dict), asked.given("memory", bool, False)
    return studio.outlook(values, asked.given("model", str, ""), with_memory).as_json()


READING: dict[str, Answering] = {
    "status": _status,
    "events": _events,
    "runs": _runs,
    "epochs": _epochs,
    "compare": _compare,
    "models": _models,
    "sheet": _sheet,
    "previews/{id}": _preview,
    "web/{name}": _web,
}
CHANGING: dict[str, Answering] = {
    "start": _start,
    "stop": _stop,
    "resume": _resume,
    "queue/start": _queue_start,
    "queue/move": _queue_move,
    "queue/remove": _queue_remove,
    "promote": _promote,
    "delete": _delete,
    "recipe": _recipe,
    "outlook": _outlook,
}
