"""From a tagger's probabilities to the tags of a caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.captions import format_tags, parse_tags
from .config import TaggerConfig
from .vocabulary import Label, Vocabulary

# Faces whose underscores are part of them: the list of toriato's stable-diffusion-webui-wd14-tagger. kohya tells them
# by their length, which mangles (o)_(o).
_FACES = "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"
KAOMOJI = frozenset(_FACES.split())
_BY_THRESHOLD = ("general", "character", "copyright", "artist", "meta", "model")


def chosen_tags(probabilities: np.ndarray, vocabulary: Vocabulary, config: TaggerConfig) -> list[str]:
    """The tags of one picture, the surest first, as the config wants them.

    probabilities: [outputs], 0 to 1. A tag counts from its category's threshold on (≥, as kohya). Ratings and qualities
    exclude each other: only the likeliest of each is ever written."""
    unwanted = {_comparable(tag) for tag in parse_tags(config.undesired_tags)}
    sure = [
        (float(probabilities[place]), label)
        for place, label in vocabulary.items()
        if label.category in _BY_THRESHOLD and probabilities[place] >= _threshold(label.category, config)
    ]
    sure.sort(key=lambda each: -each[0])  # stable: equally sure ones stay in the model's order
    labels = [label for _, label in sure]
    if config.character_tags_first:
        labels.sort(key=lambda label: label.category != "character")
    for category, place in (("quality", config.quality), ("rating", config.rating)):
        likeliest = _likeliest(probabilities, vocabulary, category)
        if likeliest is not None and place != "none":
            labels.insert(0 if place == "first" else len(labels), likeliest)
    wanted = [label for label in labels if _comparable(label.name) not in unwanted]
    names = [name for label in wanted for name in _names(label, config)]
    return list(dict.fromkeys(names))


def combined_caption(caption: str, tags: Sequence[str], mode: str) -> str:
    """The caption with a tagger's tags in it: instead (`overwrite`), behind or in front of what it says.

    `keep` leaves a caption that says something. Tags that it has already are not added again."""
    there = parse_tags(caption)
    folded = {tag.casefold() for tag in there}
    new = [tag for tag in tags if tag.casefold() not in folded]
    results = {"overwrite": tags, "append": [*there, *new], "prepend": [*new, *there], "keep": there or tags}
    return format_tags(results[mode])


def _threshold(category: str, config: TaggerConfig) -> float:
    return getattr(config, f"{category}_threshold")


def _likeliest(probabilities: np.ndarray, vocabulary: Vocabulary, category: str) -> Label | None:
    among = [(place, label) for place, label in vocabulary.items() if label.category == category]
    return max(among, key=lambda each: probabilities[each[0]])[1] if among else None


def _names(label: Label, config: TaggerConfig) -> list[str]:
    """One name; or two, for a character whose series is part of it."""
    names = [label.name]
    head, bracket, series = label.name.rpartition("(")
    if config.character_tag_expand and label.category == "character" and bracket and series.endswith(")") and head:
        names = [head.rstrip("_"), series[:-1]]
    return [_spaced(name) for name in names] if config.remove_underscore else names


def _spaced(name: str) -> str:
    return name if name in KAOMOJI else name.replace("_", " ")


def _comparable(tag: str) -> str:
    return tag.casefold().replace("_", " ")
