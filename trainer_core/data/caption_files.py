"""Caption files as people save them: several encodings, several lines, empty, or not there."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

CAPTION_SUFFIXES = (".txt", ".caption")  # the first that is there is read


@dataclass(frozen=True)
class CaptionFile:
    """One caption file: its first line of text, and what was odd about it.

    is_utf8: False when it had to be read as Latin-1. lines: how many lines have text; 0 means an empty caption."""

    text: str
    is_utf8: bool
    lines: int


def read_caption(path: Path) -> CaptionFile:
    """The first line with text (as kohya without wildcards), from UTF-8 or UTF-16 with or without its mark, or Latin-1.

    Raises DataError if the file cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the caption {path.parent.name}/{path.name} cannot be read ({error.strerror}); copy it again"
        ) from error
    text, is_utf8 = decode_caption(data)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return CaptionFile(lines[0] if lines else "", is_utf8, len(lines))


def decode_caption(data: bytes) -> tuple[str, bool]:
    """The text of a caption file's bytes, and whether they were Unicode rather than Latin-1."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding), True
    except UnicodeDecodeError:
        return data.decode("latin-1"), False
