"""kohya's free-form optimizer arguments, `decouple=True betas=0.9,0.99`, as Python values and never as code."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigError

_KEY = re.compile(r"""(?:^|(?<=[\s,;"']))([A-Za-z_]\w*)\s*=\s*""")
_QUOTED_PAIR = re.compile(r"""(["'])([A-Za-z_]\w*\s*=[^"']*)\1""")
# Words that people write and ast.literal_eval does not read.
_WORDS = {"true": True, "false": False, "none": None, "inf": math.inf, "float('inf')": math.inf, "math.inf": math.inf}


def parse_optimizer_args(
    text: str | Sequence[str], setting: str = "optimizer_args", words: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Options from kohya's `key=value` pairs: one line of text, or a list with one pair per entry.

    `"decouple=True betas=0.9,0.99"` → `{"decouple": True, "betas": (0.9, 0.99)}`. Values are Python literals, read by
    ast.literal_eval as sd-scripts reads them; `true`, `none` and `inf` are understood too. Quotes around a pair and a
    comma after it are forgiven (sd-scripts would take `True,` for a tuple). setting: for messages. words: further words
    with a value, by their lower case.

    Raises ConfigError for text that is no pair, a value that is no literal, and a key given twice."""
    lines = [text] if isinstance(text, str) else list(text)
    options: dict[str, Any] = {}
    for key, value in (pair for line in lines for pair in _pairs(line, setting)):
        if key in options:
            raise ConfigError(f"{setting}: {key} is given twice; keep one")
        options[key] = _value(key, value, setting, {**_WORDS, **(words or {})})
    return options


def _pairs(line: str, setting: str) -> list[tuple[str, str]]:
    # Split at the keys, not at spaces: `betas=(0.9, 0.99)` is one pair.
    before, *parts = _KEY.split(_QUOTED_PAIR.sub(r"\2 ", line))
    if before.strip(" \t\r\n,;"):
        raise ConfigError(f'{setting}: "{before.strip()}" is not key=value; write e.g. weight_decay=0.01')
    return list(zip(parts[::2], parts[1::2], strict=True))


def _value(key: str, text: str, setting: str, words: Mapping[str, Any]) -> Any:
    literal = text.strip().rstrip(",;").strip()
    if literal.lower().replace('"', "'") in words:
        return words[literal.lower().replace('"', "'")]
    try:
        return ast.literal_eval(literal)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):  # the last two: nested too deep
        raise ConfigError(
            f"{setting}: {key}={literal} is not a value; write a number, numbers with a comma, True, False or None"
        ) from None
