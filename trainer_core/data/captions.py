"""Captions as training sees them: with the trigger word first, shuffled or dropped anew for each visit.

Edits come before: `edits.with_edits` makes them once, for the whole dataset."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import DatasetConfig
from ..errors import ConfigError
from .wildcards import resolved

if TYPE_CHECKING:
    from .examples import Example


def parse_tags(caption: str) -> list[str]:
    """The caption's comma-separated parts, trimmed, empty ones left out. A sentence without commas is one tag; a line
    ends a tag, too."""
    return [tag.strip() for tag in re.split("[,\n]", caption) if tag.strip()]


def format_tags(tags: Sequence[str]) -> str:
    """The tags as one caption, joined as kohya joins them."""
    return ", ".join(tags)


def with_trigger(caption: str, trigger_word: str) -> str:
    """The caption with the trigger word (or words, separated by commas) in front, and nowhere else as a tag."""
    trigger = _distinct(parse_tags(trigger_word))
    return format_tags(trigger + _without(parse_tags(caption), trigger))


def settings_of(example: Example, config: DatasetConfig) -> DatasetConfig:
    """The settings for one picture's captions: the run's, but for those that a dataset file gives its subset."""
    return replace(config, **dict(example.caption_settings)) if example.caption_settings else config


def prepared_caption(caption: str, config: DatasetConfig) -> str:
    """The caption that a picture is trained with when nothing is left to chance: trigger word first, and of lines and
    wildcards the first choice."""
    caption = _chosen(caption, config, lambda choices: choices[0])
    return _written(_without_marks(_prepared_tags(caption, config), config), config)


def training_caption(
    example: Example, config: DatasetConfig, seed: int, epoch: int, turn: int = 0, step: int = 0
) -> str:
    """The caption of one visit to a picture: a pure function of (seed, epoch, turn, picture), and of the step while the
    tags warm up.

    turn: which of the picture's repeats in the epoch it is, from 0. step: optimizer steps that are done. config: as
    `for_run` gives it. sd-scripts' order (`process_caption`): dropout of the whole caption, prefix, suffix and trigger
    word included; one of its lines; wildcards; what `keep_tokens_separator` sets apart, or else the first `keep_tokens`
    tags, stays in front, and of the others, as far as the warm-up lets them in, the order is shuffled and single ones
    are dropped; last, tags that secondary_separator held together are parted. Prefix and suffix stand on whichever line
    is taken, where sd-scripts has them on the first and last only. The trigger word counts among the kept tags and
    stays in any case. A regularisation picture, which shows what the trigger word does not mean, has no trigger word.

    With `caption_variants` n, a picture's visits take n captions in turn."""
    config = settings_of(example, config)
    dice = random.Random(f"caption of {example.digest} in turn {turn} of epoch {epoch} from {seed}")
    if dice.random() < config.caption_dropout_rate or _is_captionless(epoch, config):
        return ""
    if config.caption_variants:
        variant = ((epoch - 1) * example.repeats + turn) % config.caption_variants
        dice = random.Random(f"caption {variant} of {example.digest} from {seed}")
    if example.is_reg:
        config = replace(config, trigger_word="")
    caption = _chosen(example.caption, config, dice.choice)
    kept, flexible, suffix = _apart(_prepared_tags(caption, config), config)
    flexible = flexible[: _let_in(len(flexible), step, config)]
    if config.shuffle_caption:
        dice.shuffle(flexible)
    if config.caption_tag_dropout_rate:
        flexible = [tag for tag in flexible if dice.random() >= config.caption_tag_dropout_rate]
    return _written(kept + flexible + suffix, config)


def for_run(config: DatasetConfig, total_steps: int, trains_text: bool) -> DatasetConfig:
    """The settings as `training_caption` takes them: the warm-up in whole steps, and a new caption for every visit
    where there is nothing to gain from few, as a text encoder that learns encodes each one anyway."""
    warmup = config.token_warmup_step
    whole = math.floor(warmup * total_steps) if warmup < 1 else math.floor(warmup)
    return replace(config, token_warmup_step=whole, caption_variants=0 if trains_text else config.caption_variants)


def has_chance(config: DatasetConfig) -> bool:
    """Whether two visits to a picture may see different captions, but for the dropout of whole ones."""
    return config.shuffle_caption or config.caption_tag_dropout_rate > 0 or config.enable_wildcard


def check_caption_settings(config: DatasetConfig) -> None:
    """Raise ConfigError for a separator that could never be told from the commas between tags."""
    for name in ("keep_tokens_separator", "secondary_separator"):
        if "," in getattr(config, name):
            raise ConfigError(f"{name} {getattr(config, name)!r} has a comma, which parts tags already; give |||, say")


def _chosen(caption: str, config: DatasetConfig, choose: Callable[[Sequence[str]], str]) -> str:
    """One of the caption's lines, between prefix and suffix and with its wildcards resolved; without enable_wildcard
    the first line, as it stands."""
    lines = caption.split("\n")
    line = choose(lines) if config.enable_wildcard and len(lines) > 1 else lines[0]
    framed = " ".join(part for part in (config.caption_prefix, line, config.caption_suffix) if part)
    return resolved(framed, choose) if config.enable_wildcard else framed


def _let_in(count: int, step: int, config: DatasetConfig) -> int:
    """How many of so many tags the warm-up lets in: token_warmup_min at first, all from token_warmup_step on."""
    warmup = int(config.token_warmup_step)
    if step >= warmup:
        return count
    return max(0, step * (count - config.token_warmup_min) // warmup + config.token_warmup_min)


def _prepared_tags(caption: str, config: DatasetConfig) -> list[str]:
    """The caption's tags, trigger word first; a keep_tokens_separator is a tag of its own among them."""
    if mark := config.keep_tokens_separator.strip():
        caption = caption.replace(mark, f",{mark},")
    return parse_tags(with_trigger(caption, config.trigger_word))


def _apart(tags: list[str], config: DatasetConfig) -> tuple[list[str], list[str], list[str]]:
    """What stays in front, what may move, and what stays behind, as kohya's keep_tokens_separator has it."""
    triggers = len(_distinct(parse_tags(config.trigger_word)))
    mark = config.keep_tokens_separator.strip()
    if mark and mark in tags:
        front = tags.index(mark)
        rest = tags[front + 1 :]
        back = rest.index(mark) if mark in rest else len(rest)
        return tags[:front], rest[:back], _without_marks(rest[back:], config)
    kept = max(config.keep_tokens, triggers)
    return tags[:kept], tags[kept:], []


def _without_marks(tags: list[str], config: DatasetConfig) -> list[str]:
    return [tag for tag in tags if tag != config.keep_tokens_separator.strip()]


def _written(tags: Sequence[str], config: DatasetConfig) -> str:
    """The caption as the text encoder reads it: tags that secondary_separator held together are tags again."""
    caption = format_tags(tags)
    return caption.replace(config.secondary_separator, ",") if config.secondary_separator else caption


def _is_captionless(epoch: int, config: DatasetConfig) -> bool:
    every = config.caption_dropout_every_n_epochs
    return every > 0 and epoch % every == 0


def _without(tags: Sequence[str], unwanted: Sequence[str]) -> list[str]:
    folded = {tag.casefold() for tag in unwanted}
    return [tag for tag in tags if tag.casefold() not in folded]


def _distinct(tags: Sequence[str]) -> list[str]:
    return list({tag.casefold(): tag for tag in reversed(tags)}.values())[::-1]
