"""Wildcards in captions, as sd-scripts has them: of {red|blue} hat one colour; {{ and }} are braces."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_WILDCARD = re.compile(r"\{([^}]+)\}")
_OPENING, _CLOSING = "\ufdd0", "\ufdd1"  # code points that are no characters, so that no text has them


def resolved(caption: str, choose: Callable[[Sequence[str]], str]) -> str:
    """The caption with one choice in each wildcard's place, from left to right; wildcards do not nest.

    choose: takes one of the choices, which may be empty ones. A brace without its counterpart stays as it is."""
    caption = caption.replace("{{", _OPENING).replace("}}", _CLOSING)
    end = caption.rfind("}") + 1  # no brace behind it has a counterpart, which each of them would be searched for
    caption = _WILDCARD.sub(lambda found: choose(found[1].split("|")), caption[:end]) + caption[end:]
    return caption.replace(_OPENING, "{").replace(_CLOSING, "}")
