"""Caption files written with a way back: what stood there before is kept in the dataset's own `.lazylora` folder."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from ..data.caption_files import CAPTION_SUFFIXES, decode_caption, is_plain_caption, read_caption
from ..data.examples import Example
from ..data.names import printable
from ..data.spaced_tags import parted_at_spaces
from ..errors import DataError
from ..files.atomic import write_atomically

FOLDER = ".lazylora"
_ENTRY = re.compile(r"(\d{6})\.json")


@dataclass(frozen=True)
class Written:
    """One change of caption files. what: in words. when: seconds since 1970. files: how many were changed."""

    number: int
    what: str
    when: float
    files: int


@dataclass(frozen=True)
class Undone:
    """What undoing did. left_alone: caption files that somebody has changed since, and which stay as they are."""

    what: str
    files: int
    left_alone: tuple[str, ...]


def written_caption(example: Example) -> str:
    """What the picture's caption file says, with commas between tags.

    "" where there is none, whatever the folder's name says instead."""
    return caption_in(example.caption_path, example) if example.caption_path is not None else ""


def caption_in(path: Path, example: Example) -> str:
    """What one of the picture's caption files says, with commas between tags."""
    text = read_caption(path).text
    return parted_at_spaces(text) if example.is_spaced and "_" in text else text


def caption_file(example: Example) -> Path:
    """Where the picture's caption is written: beside what a downloader left, which is read no more then."""
    path = example.caption_path
    return path if path is not None and is_plain_caption(path) else example.path.with_suffix(".txt")


class CaptionHistory:
    """The changes that were made to a dataset's caption files, on disk, so that they can be undone after a restart.

    Each change is one JSON file in `<folder>/.lazylora/captions`, which is complete and on the disk before the first
    caption is touched: if the machine stops in between, undoing restores what was changed so far."""

    def __init__(self, folder: Path):
        self._root = folder.resolve()
        self._entries = self._root / FOLDER / "captions"

    def write(self, captions: Mapping[Example, str], what: str) -> int:
        """Write each picture's caption into its file, a new .txt where there is none; gives how many files changed.

        Only the first line with text is replaced, as that is what training reads; a file that was no UTF-8 becomes it.
        Files that say so already are not touched. Raises DataError for a file that cannot be written or lies outside
        the dataset's folder."""
        self._require_folder()
        changes: dict[str, dict[str, str | None]] = {}
        for example, caption in captions.items():
            path = caption_file(example)
            before = _content(path)
            if before is None or _first_line(before) != caption:
                after = _with_caption(before, " ".join(caption.splitlines()))
                changes[self._relative(path)] = {"before": before, "after": after}
        if not changes:
            return 0
        with self._locked():
            number = max((each.number for each in self.entries()), default=0) + 1
            self._keep(number, {"what": what, "when": time.time(), "files": changes})
            for name, texts in changes.items():
                self._put(self._root / name, texts["after"])
        return len(changes)

    def undo(self) -> Undone | None:
        """Take the newest change back; None when there is none left.

        A file that was changed by anybody else since then is left alone. Raises DataError for a history that was
        tampered with or a file that cannot be written."""
        with self._locked():
            newest = max(self.entries(), key=lambda each: each.number, default=None)
            if newest is None:
                return None
            path = self._entry_path(newest.number)
            restored, left_alone = 0, []
            for name, texts in _read_entry(path)["files"].items():
                file = self._checked(name)
                now = _content(file)
                if now == texts["after"]:
                    self._put(file, texts["before"])
                    restored += 1
                elif now != texts["before"]:
                    left_alone.append(name)
            path.unlink()
        return Undone(newest.what, restored, tuple(left_alone))

    def entries(self) -> list[Written]:
        """The changes that can be undone, oldest first."""
        found = []
        for path in sorted(self._entries.glob("*.json")) if self._entries.is_dir() else ():
            if match := _ENTRY.fullmatch(path.name):
                entry = _read_entry(path)
                found.append(Written(int(match[1]), entry["what"], entry["when"], len(entry["files"])))
        return found

    def _entry_path(self, number: int) -> Path:
        return self._entries / f"{number:06}.json"

    def _keep(self, number: int, entry: dict[str, Any]) -> None:
        text = json.dumps(entry, indent=1)  # ASCII: bytes that are no UTF-8 survive as escapes
        write_atomically(self._entry_path(number), lambda path: path.write_text(text, encoding="ascii"))

    def _put(self, path: Path, text: str | None) -> None:
        """Have the file say `text`, or be gone, at once: a reader sees the old caption or the new one.

        Not synced one by one, as ten thousand captions would take minutes: the history is, and has both texts."""
        unfinished = self._root / FOLDER / f"{secrets.token_hex(6)}.tmp"
        try:
            if text is None:
                path.unlink(missing_ok=True)
                return
            unfinished.write_bytes(_to_bytes(text))
            os.replace(unfinished, path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise DataError(
                f"the caption {path} cannot be written ({error.strerror}); make it writable, then undo the change "
                "or make it again"
            ) from error

    def _relative(self, path: Path) -> str:
        resolved = path.parent.resolve() / path.name
        if not resolved.is_relative_to(self._root):
            raise DataError(f"{path} lies outside {self._root}, behind a link; choose the folder that it is in")
        return resolved.relative_to(self._root).as_posix()

    def _checked(self, name: str) -> Path:
        """A name out of the history as a path; a history may have come with a downloaded dataset."""
        parts = PurePosixPath(name).parts
        path = self._root.joinpath(*parts)
        is_caption = path.suffix.lower() in CAPTION_SUFFIXES and ".." not in parts and "\\" not in name
        if (
            not is_caption
            or not _can_be_a_file(name)
            or not (path.parent.resolve() / path.name).is_relative_to(self._root)
        ):
            raise DataError(
                f"the history in {self._entries} names {printable(name)}, which is no caption of this dataset; "
                "remove the history"
            )
        return path

    def _require_folder(self) -> None:
        if self._root.is_file():
            raise DataError(
                f"{printable(self._root.name)} is a file that describes a dataset, and captions are written into one "
                "folder at a time; name a folder of its pictures instead, or correct what the file itself says"
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._require_folder()
        try:
            self._entries.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / FOLDER / "captions.lock"):
                yield
        except OSError as error:
            raise DataError(
                f"nothing can be written in {self._root} ({error.strerror}), so captions could not be undone; "
                "make the folder writable"
            ) from error


def _can_be_a_file(name: str) -> bool:
    """Whether the file system can be asked for it: JSON can hold NULs and halves of letters, names cannot."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _first_line(content: str) -> str:
    text, _ = decode_caption(_to_bytes(content))
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _with_caption(before: str | None, caption: str) -> str:
    """The caption file's content with its first line of text replaced; all else, and its line ends, stay."""
    text, _ = decode_caption(_to_bytes(before or ""))
    lines = text.splitlines(keepends=True)
    place = next((place for place, line in enumerate(lines) if line.strip()), None)
    if place is None:
        return caption
    lines[place] = caption + lines[place][len(lines[place].rstrip("\r\n")) :]
    return "".join(lines)


def _content(path: Path) -> str | None:
    """The file's text, None where there is none; bytes that are no UTF-8 are kept as surrogates, so none is lost."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"the caption {path} cannot be read ({error.strerror}); copy it again") from error


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _read_entry(path: Path) -> dict[str, Any]:
    try:
        entry = json.loads(path.read_text(encoding="ascii"))
        texts = [text for each in entry["files"].values() for text in (each["before"], each["after"])]
        is_sound = isinstance(entry["what"], str) and isinstance(entry["when"], (int, float))
        if is_sound and all(text is None or isinstance(text, str) for text in texts):
            return entry
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise DataError(f"{path} is damaged, so its change cannot be undone; remove it")
