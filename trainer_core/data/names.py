"""How messages name files, whose names may hold anything that a file system lets through."""

from __future__ import annotations

import unicodedata
from pathlib import Path

# control characters, lone surrogates (bytes that are no UTF-8), line ends, and marks that turn the reading direction
_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(name: str) -> str:
    """The name with what cannot be shown in one line, or written as UTF-8, as an escape: `a\\nb.png`."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(_escaped(letter) if _is_unsafe(letter) else letter for letter in name)


def named(path: Path) -> str:
    """How messages name a file: its folder and file name, `10_cat/03.jpg`."""
    return printable(f"{path.parent.name}/{path.name}")


def _is_unsafe(letter: str) -> bool:
    return letter in _TURNING or unicodedata.category(letter) in _UNSAFE


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
