"""Settings that do nothing, contradict each other or are known from the guides to go wrong: said before training."""

from __future__ import annotations

from collections.abc import Iterator

from . import inert, network, rates, steps  # noqa: F401  (each registers its warnings)
from .base import GUIDES, WARNINGS, Outlook

__all__ = ["GUIDES", "WARNINGS", "Outlook", "advise"]


def advise(outlook: Outlook) -> Iterator[str]:
    """One sentence for each doubtful setting, naming the setting and the cure."""
    for _, entry in WARNINGS:
        yield from entry.sentences(outlook)
