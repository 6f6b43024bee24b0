"""What can go wrong, each as one sentence that names the thing and the cure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LazyLoraError(Exception):
    """Any failure whose message is meant for the person who trains: shown as it is, without a traceback."""


class ConfigError(LazyLoraError):
    """A setting is unknown, out of range or contradicts another one."""


class DataError(LazyLoraError):
    """A dataset folder, picture or caption cannot be used."""


class HostError(LazyLoraError):
    """The model that the host has loaded cannot be trained as it is."""


class RunError(LazyLoraError):
    """A run folder cannot be written, read or resumed."""


class TrainingError(LazyLoraError):
    """Training itself broke down (a loss that is not a number, memory that ran out)."""


class SamplingStopped(LazyLoraError):
    """A preview was given up between two of its sampler's steps, as the run is to stop."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to append to a message about an unknown name: `; did you mean "rank"?`, or "" when nothing is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
