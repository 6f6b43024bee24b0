"""Captions as they lie beside pictures: as people save them, and as downloaders do.

For `cat.jpg`, the first of these that is there is read:

1. `cat.txt`, then `cat.caption`: a caption. Of several lines the first, or any of them with `enable_wildcard`.
2. `cat.jpg.txt`: a tag in each line, as gallery-dl writes them.
3. `cat.json`, then `cat.jpg.json`: what a downloader knows of the picture; `sidecars` says which of it is the caption.
"""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .names import named
from .pictures import PICTURE_SUFFIXES
from .sidecars import spaced, tags_of_sidecar

CAPTION_SUFFIXES = (".txt", ".caption")  # the first that is there is read
SIDECAR_SUFFIX = ".json"
_MOST_BYTES = 1 << 20  # no caption is longer; a sidecar with its comments may come near


@dataclass(frozen=True)
class CaptionFile:
    """One caption file: its text, and what was odd about it.

    text: the first line that has any, or all that have, with `enable_wildcard`. is_utf8: False when it had to be read
    as Latin-1. lines: how many lines have text; 0 means an empty caption."""

    text: str
    is_utf8: bool
    lines: int


class CaptionIndex:
    """The caption files among a folder's files, found by their pictures' names."""

    def __init__(self, files: Mapping[str, Path], suffixes: Sequence[str] = CAPTION_SUFFIXES):
        """files: by name. suffixes: those of captions, in the order in which they are looked for."""
        wanted = {*suffixes, *CAPTION_SUFFIXES, SIDECAR_SUFFIX}
        self._files = {_key(name): path for name, path in files.items() if _suffix(name) in wanted}
        self._suffixes = suffixes

    def of(self, picture: Path) -> Path | None:
        """The file with the picture's caption, None where there is none."""
        plain = [(picture.stem, suffix) for suffix in self._suffixes]
        others = [(picture.name, ".txt"), (picture.stem, SIDECAR_SUFFIX), (picture.name, SIDECAR_SUFFIX)]
        keys = [(_normal(stem), suffix) for stem, suffix in (*plain, *others)]
        return next((self._files[key] for key in keys if key in self._files), None)


def read_caption(path: Path, all_lines: bool = False) -> CaptionFile:
    """A caption file's text from UTF-8, UTF-16 or Latin-1; what a downloader wrote becomes tags with commas.

    all_lines: every line with text rather than the first, parted by line ends. Raises DataError for a file that cannot
    be read, is far too long, or is a sidecar without sense."""
    text, is_utf8 = decode_caption(_bytes_of(path))
    if _suffix(path.name) == SIDECAR_SUFFIX:
        caption = tags_of_sidecar(text, named(path))
        return CaptionFile(caption, is_utf8, 1 if caption else 0)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not is_plain_caption(path):
        return CaptionFile(", ".join(spaced(line) for line in lines), is_utf8, min(len(lines), 1))
    return CaptionFile("\n".join(lines if all_lines else lines[:1]), is_utf8, len(lines))


def is_plain_caption(path: Path) -> bool:
    """Whether a caption file holds a caption as people write it, rather than what a downloader left."""
    return _suffix(path.name) != SIDECAR_SUFFIX and _suffix(path.stem) not in PICTURE_SUFFIXES


def decode_caption(data: bytes) -> tuple[str, bool]:
    """The text of a caption file's bytes, and whether they were Unicode rather than Latin-1."""
    try:
        return data.decode(_encoding(data)), True
    except UnicodeDecodeError:
        return data.decode("latin-1"), False


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if data[1:2] == b"\0":  # no text has a NUL: the upper half of an ASCII letter
        return "utf-16-le"
    return "utf-16-be" if data[:1] == b"\0" else "utf-8-sig"


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would never end
            raise DataError(f"the caption {named(path)} is a broken link or no ordinary file; remove it")
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"the caption {named(path)} is larger than {_MOST_BYTES >> 20} MiB; shorten it")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"the caption {named(path)} cannot be read ({error.strerror}); copy it again") from error


def _key(name: str) -> tuple[str, str]:
    stem, suffix = os.path.splitext(name)
    return _normal(stem), suffix.lower()


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _normal(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)  # macOS writes é as two characters into some names and as one into others
