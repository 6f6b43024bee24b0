"""Tags by what they are about, as a tagger's list of tags knows it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..config import TagEdit
from ..data.captions import format_tags, parse_tags
from ..errors import ConfigError, did_you_mean
from .vocabulary import CATEGORIES, Vocabulary


def without_categories(captions: Iterable[str], vocabulary: Vocabulary, categories: Collection[str]) -> TagEdit:
    """The edit that removes every tag of these categories that stands on any of the captions.

    A tag counts as the list's whether it is written with spaces or underscores, with or without backslashes before its
    brackets. Raises ConfigError for a category that nobody knows."""
    for category in categories:
        if category not in CATEGORIES:
            hint = did_you_mean(category, CATEGORIES) or f"; choose among {', '.join(CATEGORIES)}"
            raise ConfigError(f'there is no category "{category}"{hint}')
    unwanted = {_plain(label.name) for label in vocabulary.values() if label.category in categories}
    tags = dict.fromkeys(tag for caption in captions for tag in parse_tags(caption) if _plain(tag) in unwanted)
    return TagEdit("remove", format_tags(list(tags)))


def _plain(tag: str) -> str:
    return tag.casefold().replace("_", " ").replace("\\", "")
