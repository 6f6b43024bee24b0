"""Captions of pictures that look alike and do not agree with each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

# words of which a thing has one: two pictures of the same that name two of a row contradict each other
_COLOURS = "black white grey gray red green blue yellow orange purple pink brown blonde silver aqua"
_EXCLUDING = tuple(
    frozenset(row.split())
    for row in (_COLOURS, "short medium long", "small large huge flat", "open closed", "1 2 3 4 5 6 no multiple")
)
_LEAST_TAGS = 3  # fewer are no list of tags
_LEAST_SHARED = 0.5


def opposed(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of tags that cannot both be true of one thing: `blue eyes` and `red eyes`, `1girl` and `2girls`.

    first, second: the tags of two pictures that show nearly the same."""
    about: defaultdict[str, list[str]] = defaultdict(list)
    for tag in _only(second, first):
        about[_word_and_thing(tag)[1]].append(tag)
    only_first = _only(first, second)
    return [(one, other) for one in only_first for other in about[_word_and_thing(one)[1]] if _exclude(one, other)]


def agreement(first: Sequence[str], second: Sequence[str]) -> float:
    """The share of all tags of both that both have (Jaccard), 0 to 1; 1 where either has too few to say anything."""
    one, other = ({tag.casefold() for tag in tags} for tags in (first, second))
    if min(len(one), len(other)) < _LEAST_TAGS:
        return 1.0
    return len(one & other) / len(one | other)


def disagree(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the two lists of tags can hardly be of one picture."""
    return bool(opposed(first, second)) or agreement(first, second) < _LEAST_SHARED


def _only(tags: Sequence[str], others: Sequence[str]) -> list[str]:
    folded = {tag.casefold() for tag in others}
    return [tag for tag in tags if tag.casefold() not in folded]


def _exclude(one: str, other: str) -> bool:
    """Whether two tags about the same thing say what cannot both be true of it."""
    (word, thing), (other_word, _) = _word_and_thing(one), _word_and_thing(other)
    return bool(thing) and word != other_word and any({word, other_word} <= row for row in _EXCLUDING)


@lru_cache(maxsize=4096)  # a dataset has fewer tags, and thousands of pairs of captions to compare
def _word_and_thing(tag: str) -> tuple[str, str]:
    """`long hair` → (long, hair), `1girl` → (1, girl); the thing without its plural s."""
    tag = tag.casefold().replace("_", " ")
    if tag[:1].isdigit() and tag[1:].isalpha():
        return tag[0], tag[1:].rstrip("s")
    word, _, thing = tag.partition(" ")
    return word, thing.rstrip("s")
