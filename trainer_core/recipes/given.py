"""A recipe as its reader hands it on: every key in sd-scripts' words, which all these programs share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_SECRET = re.compile(r"(^|_)(token|api_?key|secret|password|credentials?)$", re.IGNORECASE)
_TOKEN_TEXT = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


@dataclass(frozen=True)
class Given:
    """One key of a recipe.

    key, value: as they stand in the file. argument: sd-scripts' name for it, `network_args.algo` for what stands in a
    list of `key=value`. meaning: the value in sd-scripts' notation. why: what the reader had to do for that. verdict:
    set where the reader knows already that the key does nothing or cannot be had."""

    key: str
    value: Any
    argument: str
    meaning: Any
    why: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Recipe:
    """All keys of a file. source: the format's name for people. is_complete: what is not in it is not meant either, so
    no other program's defaults, whose keys stand in brackets, come in for it."""

    source: str
    givens: tuple[Given, ...]
    warnings: tuple[str, ...] = ()
    is_complete: bool = False


def is_secret(key: str) -> bool:
    """Whether a key holds a password or an access token (`huggingface_token`, `wandb_api_key`)."""
    return bool(_SECRET.search(key))


def without_tokens(value: Any) -> Any:
    """The value with access tokens inside it masked, however deep they lie."""
    if isinstance(value, str):
        return _TOKEN_TEXT.sub("•••", value)
    if isinstance(value, dict):
        return {key: "•••" if is_secret(str(key)) else without_tokens(each) for key, each in value.items()}
    return [without_tokens(each) for each in value] if isinstance(value, list) else value


def is_unset(value: Any) -> bool:
    """How these programs write that a field was left empty."""
    return value is None or value == [] or value == {} or (isinstance(value, str) and value.strip() in ("", "None"))


def is_off(value: Any) -> bool:
    """Whether a value switches its option off."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "0", "0.0", "false", "none", "no", "off")
    return not value
