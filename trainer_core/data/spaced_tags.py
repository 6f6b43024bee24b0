"""Captions whose tags have spaces between them, as imgbrd-grabber writes them: `1girl long_hair blue_eyes`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .sidecars import spaced

_UNDERSCORED = re.compile(r"\S+_\S+")


def parted_at_spaces(caption: str) -> str:
    """The caption's words as tags with commas between, underscores in them as spaces; each of its lines for itself.

    A line with a comma has its tags parted already, and stays as it is."""
    lines = [line if "," in line else ", ".join(map(spaced, line.split())) for line in caption.split("\n")]
    return "\n".join(lines)


def look_spaced(captions: Sequence[str]) -> bool:
    """Whether most captions are a booru's tags with spaces between: no comma, and several words with underscores."""
    parted = [caption for caption in captions if "," not in caption and len(_UNDERSCORED.findall(caption)) > 1]
    return len(parted) * 2 > len(captions)


def are_spaced(captions: Sequence[str]) -> bool:
    """Whether there is no doubt of it: most look so, and nobody has put a comma into any."""
    return look_spaced(captions) and not any("," in caption for caption in captions)
