"""A folder's caption files as the dataset room shows and edits them: written only on request, with a way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import TagEdit
from ..data.captions import parse_tags
from ..data.edits import edited_captions
from ..data.examples import Example, scan
from ..doctor.report import Examined, examine
from ..errors import ConfigError
from ..hosts.venue import Venue
from ..studio.request import require_allowed_pictures
from ..tagging.history import CaptionHistory, Undone, Written
from .glance import allowed_dataset


@dataclass(frozen=True)
class Change:
    """What an edit makes of a picture's caption."""

    example: Example
    before: str
    after: str


class CaptionRoom:
    """The captions of one folder, read anew each time it is asked."""

    def __init__(self, values: Mapping[str, Any], venue: Venue):
        """values: the dataset's settings. Raises ConfigError for a folder that is missing or may not be named here."""
        self._config, self._venue = allowed_dataset(values, venue), venue
        self._folder = Path(self._config.folder).expanduser()

    def examined(self) -> Examined:
        """Everything that is odd in the folder. Raises DataError for one that cannot be trained on."""
        examined = examine(replace(self._config, tag_edits=()))
        require_allowed_pictures(examined.examples, self._venue)
        return examined

    def with_tag(self, tag: str, most: int) -> list[Example]:
        """The first `most` pictures whose captions have the tag, in any case; "" is all of them."""
        wanted = tag.strip().casefold()
        found = [
            each for each in self._examples() if not wanted or wanted in map(str.casefold, parse_tags(each.caption))
        ]
        return found[:most]

    def changes(self, edit: TagEdit) -> list[Change]:
        """The captions that the edit would change. Raises ConfigError for an edit that cannot be done."""
        examples = self._examples()
        before = [each.caption for each in examples]
        after = edited_captions(before, [edit], self._config.keep_tokens_separator)
        return [Change(*each) for each in zip(examples, before, after) if each[1] != each[2]]

    def write(self, changes: Sequence[Change], what: str) -> int:
        """Have the caption files say so; gives how many were written. Raises DataError where that cannot be."""
        return self._history().write({each.example: each.after for each in changes}, what)

    def undo(self) -> Undone | None:
        """Take the newest change back, whoever has made it; None when there is none."""
        return self._history().undo()

    def newest_change(self) -> Written | None:
        """What `undo` would take back."""
        if not self._folder.is_dir():
            return None
        return max(CaptionHistory(self._folder).entries(), key=lambda each: each.number, default=None)

    def _examples(self) -> list[Example]:
        examples = scan(replace(self._config, tag_edits=(), bad_pictures="skip")).subjects
        require_allowed_pictures(examples, self._venue)
        return examples

    def _history(self) -> CaptionHistory:
        if not self._folder.is_dir():
            raise ConfigError(f"{self._folder.name} is a file that names folders; edit captions in one of these")
        return CaptionHistory(self._folder)
