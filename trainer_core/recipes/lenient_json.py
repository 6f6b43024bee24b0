"""JSON as people share it: with comments, trailing commas, a byte-order mark, or inside the text of a guide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError

# One that is not closed goes on to the end: else each quote in it would be tried as a beginning, up to the end again.
_STRING = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*|/\*.*?(?:\*/|\Z)|(?m:^[ \t]*#[^\n]*)", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)


def parse_json_object(text: str) -> tuple[dict[str, Any], list[str]]:
    """The first JSON object in the text, and sentences on what had to be forgiven.

    Raises ConfigError where there is none, or none that can be read."""
    cleaned = text.lstrip("\ufeff")
    if not cleaned.strip():
        raise ConfigError("the recipe is empty; give the text of a settings file")
    error: ValueError | None = None
    if cleaned.lstrip().startswith(("{", "/", "#")):
        try:
            return _parsed(cleaned)
        except ValueError as failure:
            error = failure
    readable = []
    for block in _blocks(cleaned):
        try:
            readable.append(_parsed(block))
        except ValueError as failure:
            error = error or failure
    if readable:
        values, said = readable[0]
        if len(readable) > 1:
            said.append(f"the text holds {len(readable)} blocks of settings: this is the first; give another one alone")
        return values, said
    raise ConfigError(f"this is no JSON ({error or 'there is no { in it'}); correct it, or give the whole file")


def _parsed(block: str) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    plain = _COMMENT.sub(lambda found: found[1] or "", block)
    plain = _TRAILING_COMMA.sub(lambda found: found[1] or "", plain)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                said.append(f'"{key}" stands there twice; the last one counts')
            values[key] = value
        return values

    try:
        values = json.loads(plain, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is a list or a single value")
    return values, said


def _blocks(text: str) -> Iterator[str]:
    """Every outermost `{…}` of the text."""
    depth, begin, in_string, escaped = 0, 0, False, False
    for place, letter in enumerate(text):
        if in_string:
            in_string = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"' and depth:
            in_string = True
        elif letter == "{":
            begin = begin if depth else place
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
            if not depth:
                yield text[begin : place + 1]
