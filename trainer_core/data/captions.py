"""Captions as training sees them: edited, with the trigger word first, shuffled or dropped anew for each visit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config import DatasetConfig, TagEdit

if TYPE_CHECKING:
    from .examples import Example


def parse_tags(caption: str) -> list[str]:
    """The caption's comma-separated parts, trimmed, empty ones left out. A sentence without commas is one tag."""
    return [tag.strip() for tag in caption.split(",") if tag.strip()]


def format_tags(tags: Sequence[str]) -> str:
    """The tags as one caption, joined as kohya joins them."""
    return ", ".join(tags)


def edit_tags(caption: str, edits: Sequence[TagEdit]) -> str:
    """The caption after each edit in turn. Tags are compared trimmed and without regard to case.

    prepend, append: tags that the caption has already stay where they are. replace: each of the edit's tags becomes
    the replacement, which may be several tags; one that the caption has already is not added again."""
    tags = parse_tags(caption)
    for edit in edits:
        named, replacement = _distinct(parse_tags(edit.tags)), _distinct(parse_tags(edit.replacement))
        tags = _EDITS[edit.operation](tags, named, replacement)
    return format_tags(tags)


def with_trigger(caption: str, trigger_word: str) -> str:
    """The caption with the trigger word (or words, separated by commas) in front, and nowhere else as a tag."""
    trigger = _distinct(parse_tags(trigger_word))
    return format_tags(trigger + _without(parse_tags(caption), trigger))


def prepared_caption(caption: str, config: DatasetConfig) -> str:
    """The caption that a picture is trained with when nothing is left to chance: edited, trigger word first."""
    return with_trigger(edit_tags(caption, config.tag_edits), config.trigger_word)


def training_caption(example: Example, config: DatasetConfig, seed: int, epoch: int, turn: int = 0) -> str:
    """The caption of one visit to a picture: a pure function of (seed, epoch, turn, picture).

    turn: which of the picture's repeats in the epoch it is, from 0. kohya's order: dropout of the whole caption,
    trigger word included, before the shuffle. The first `keep_tokens` tags stay in front; the trigger word counts
    among them and stays in any case."""
    caption = prepared_caption(example.caption, config)
    dice = random.Random(f"caption of {example.digest} in turn {turn} of epoch {epoch} from {seed}")
    if dice.random() < config.caption_dropout_rate:
        return ""
    if not config.shuffle_caption:
        return caption
    tags = parse_tags(caption)
    kept = max(config.keep_tokens, len(_distinct(parse_tags(config.trigger_word))))
    shuffled = tags[kept:]
    dice.shuffle(shuffled)
    return format_tags(tags[:kept] + shuffled)


def _prepended(tags: list[str], new: list[str], _: list[str]) -> list[str]:
    return _without(new, tags) + tags


def _appended(tags: list[str], new: list[str], _: list[str]) -> list[str]:
    return tags + _without(new, tags)


def _removed(tags: list[str], unwanted: list[str], _: list[str]) -> list[str]:
    return _without(tags, unwanted)


def _replaced(tags: list[str], old: list[str], new: list[str]) -> list[str]:
    others = _without(tags, old)
    pending = _without(new, others)
    replaced: list[str] = []
    for tag in tags:
        if not _without([tag], old):
            replaced += pending
            pending = []
        else:
            replaced.append(tag)
    return replaced


_EDITS = {"prepend": _prepended, "append": _appended, "remove": _removed, "replace": _replaced}


def _without(tags: Sequence[str], unwanted: Sequence[str]) -> list[str]:
    folded = {tag.casefold() for tag in unwanted}
    return [tag for tag in tags if tag.casefold() not in folded]


def _distinct(tags: Sequence[str]) -> list[str]:
    return list({tag.casefold(): tag for tag in reversed(tags)}.values())[::-1]
