"""Weights in captions, (word:1.2), read as A1111 and sd-scripts read them: how much each token counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_ROUND, _SQUARE = 1.1, 1 / 1.1
_PARTS = re.compile(
    r"""\\[()\[\]\\] | \\ | [(\[] | :(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\) | [)\]:] | [^\\()\[\]:]+""", re.VERBOSE
)


def weighted_parts(caption: str) -> list[tuple[str, float]]:
    r"""The caption's parts and their weights, as A1111's `parse_prompt_attention` has them.

    (a) weighs 1.1, [a] 1/1.1, (a:1.3) 1.3; brackets nest and multiply, and one that is not closed reaches to the end.
    \( and \[ are brackets themselves, and so are closing ones that nothing opened. Neighbours of one weight are one
    part; an empty caption is one empty part."""
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def weigh(start: int, factor: float) -> None:
        weights[start:] = [weight * factor for weight in weights[start:]]

    for found in _PARTS.finditer(caption):
        part, weight = found[0], found["weight"]
        if part in opened:
            opened[part].append(len(texts))
        elif weight is not None and opened["("]:
            weigh(opened["("].pop(), float(weight))
        elif part == ")" and opened["("]:
            weigh(opened["("].pop(), _ROUND)
        elif part == "]" and opened["["]:
            weigh(opened["["].pop(), _SQUARE)
        else:
            texts.append(part[1:] if part.startswith("\\") else part)
            weights.append(1.0)
    for bracket, factor in (("(", _ROUND), ("[", _SQUARE)):
        for start in opened[bracket]:
            weigh(start, factor)
    return _joined(texts, weights) or [("", 1.0)]


def weighted_ids(
    caption: str, tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]]
) -> tuple[list[int], list[float]]:
    """The caption's token ids, without start and end, and the weight of each.

    tokenize: texts → their ids. Each part is tokenized by itself, as sd-scripts does."""
    parts = weighted_parts(caption)
    ids: list[int] = []
    weights: list[float] = []
    for (_, weight), part in zip(parts, tokenize([text for text, _ in parts]), strict=True):
        ids += part
        weights += [weight] * len(part)
    return ids, weights


def _joined(texts: Sequence[str], weights: Sequence[float]) -> list[tuple[str, float]]:
    parts: list[tuple[str, float]] = []
    for text, weight in zip(texts, weights, strict=True):
        if parts and parts[-1][1] == weight:
            parts[-1] = (parts[-1][0] + text, weight)
        else:
            parts.append((text, weight))
    return parts
