"""A dataset as a person looks through it: its pictures and what their caption files say, edited on the spot."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..config import DatasetConfig, TagEdit
from ..data.captions import parse_tags
from ..data.edits import edited_captions
from ..data.examples import Example
from ..data.pictures import read_picture
from ..errors import DataError
from .history import CaptionHistory, Undone, Written, caption_file, caption_in

_LONGEST_CAPTION = 20_000


@dataclass(frozen=True)
class Picture:
    """One picture of a browser. key: stands for its file, so that no name is ever sent back. caption: what its file
    says, before any edit of the view; "" where there is none."""

    key: str
    name: str
    caption: str


class OutOfDate(DataError):
    """What a person saw when they decided on an edit is not what is there now."""


class BrowsedDataset:
    """Pictures that were found once, with their captions read anew each time. Safe to use from several threads."""

    def __init__(self, config: DatasetConfig, examples: Sequence[Example]):
        """examples: of the folder in `config`, as `scan` gives them."""
        self.folder = Path(config.folder)
        self._separator = config.keep_tokens_separator
        self._examples = {_key(example.path): example for example in examples}
        self._history = CaptionHistory(self.folder)
        self._editing = threading.Lock()

    def pictures(self) -> list[Picture]:
        """All of them, in the dataset's order. Raises DataError for a caption file that cannot be read."""
        return [Picture(key, each.name, _caption(each)) for key, each in self._examples.items()]

    def thumbnail(self, key: str, side: int) -> Image.Image:
        """The picture as RGB, no side longer than `side` pixels. Raises DataError where there is none to be read."""
        picture = read_picture(self._example(key).path)
        picture.thumbnail((side, side))
        return picture

    def newest_change(self) -> Written | None:
        """What `undo` would take back, whoever has made it; None when there is nothing."""
        return max(self._history.entries(), key=lambda each: each.number, default=None)

    def write_caption(self, key: str, seen: str, caption: str) -> None:
        """Have the picture's caption file say this; a new one where there is none.

        seen: what the person saw there. Raises OutOfDate where it says something else by now, DataError for a caption
        that is no text or cannot be written."""
        example = self._example(key)
        if len(caption) > _LONGEST_CAPTION or not _is_unicode(caption):
            raise DataError(f"a caption is text of at most {_LONGEST_CAPTION} letters; shorten it")
        with self._editing:
            if _caption(example) != seen:
                raise OutOfDate(f"the caption of {example.name} was changed meanwhile; look at it again")
            self._history.write({example: caption.strip()}, f"the caption of {example.name}")

    def remove_tag(self, tag: str) -> int:
        """Take the tag out of every caption that has it, in any case; gives how many caption files changed.

        Raises DataError for what is not one tag, or for captions that cannot be written."""
        if len(parse_tags(tag)) != 1 or not _is_unicode(tag):
            raise DataError("give one tag, without commas")
        folded = parse_tags(tag)[0].casefold()
        with self._editing:
            said = {example: _caption(example) for example in self._examples.values()}
            having = [each for each, caption in said.items() if folded in map(str.casefold, parse_tags(caption))]
            captions = [said[each] for each in having]
            edited = edited_captions(captions, [TagEdit("remove", tag)], self._separator)
            return self._history.write(dict(zip(having, edited)), f"removed {tag.strip()}")

    def undo(self, number: int) -> Undone:
        """Take the newest change back. Raises OutOfDate where it is not that of this number any more."""
        with self._editing:
            newest = self.newest_change()
            undone = self._history.undo() if newest is not None and newest.number == number else None
            if undone is None:
                raise OutOfDate("the newest change is another one by now; look at it again")
            return undone

    def _example(self, key: str) -> Example:
        if key not in self._examples:
            raise OutOfDate("this picture is not in the dataset any more; run the node again")
        return self._examples[key]


def _key(path: Path) -> str:
    return hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _caption(example: Example) -> str:
    """What the file says that an edit would write; before there is one, what a downloader left."""
    files = (caption_file(example), example.caption_path)
    return next((caption_in(path, example) for path in files if path is not None and path.is_file()), "")


def _is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8; JSON can hold halves of letters, which cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
