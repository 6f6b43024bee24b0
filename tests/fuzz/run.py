"""Readers fed with nonsense: whatever they are given, they answer, or say what is wrong in a LazyLoraError."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutate import mutated
from tests.fuzz.readers import Reader
from trainer_core.errors import LazyLoraError

LONGEST_SECONDS = 5.0


class Hang(BaseException):
    """A reader that takes too long; no reader's own `except Exception` swallows it."""


@dataclass(frozen=True)
class Finding:
    """What a reader let through. where: the place that raised it, by which findings are told apart."""

    what: str
    where: str
    content: bytes
    trace: str


@dataclass(frozen=True)
class Outcome:
    """tried, refused: how many inputs there were, and how many of them got a LazyLoraError."""

    tried: int
    refused: int
    slowest: float
    findings: tuple[Finding, ...]


def fuzz(
    reader: Reader, seconds: float, seed: int = 0, longest: float = LONGEST_SECONDS, most: int | None = None
) -> Outcome:
    """Feed the reader for so long, or with so many inputs; the samples themselves come first.

    Each input is a function of the seed and its number."""
    findings: dict[str, Finding] = {}
    tried = refused = 0
    slowest = 0.0
    end = time.monotonic() + seconds
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        while tried < len(reader.samples) or (time.monotonic() < end and tried != most):
            content = _input(reader, tried, seed)
            begin = time.monotonic()
            try:
                with _at_most(longest):
                    reader.read(content, folder)
            except LazyLoraError:
                refused += 1
            except (Exception, Hang) as error:
                found = _finding(error, content)
                findings.setdefault(found.where, found)
            slowest = max(slowest, time.monotonic() - begin)
            tried += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(tried, refused, slowest, tuple(findings.values()))


def _input(reader: Reader, number: int, seed: int) -> bytes:
    if number < len(reader.samples):
        return reader.samples[number]
    return mutated(reader.samples, reader.words, random.Random(f"{seed} {number}"))


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise Hang in the block when it takes longer, where the system has such alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise Hang(f"takes more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _finding(error: BaseException, content: bytes) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "trainer_core" in frame.filename] or frames
    where = f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return Finding(f"{type(error).__name__}: {error}"[:300], where, content, traceback.format_exc(limit=-6))
