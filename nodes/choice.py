"""Which epochs a node means, from the way people write it."""

from __future__ import annotations

import re

from ..trainer_core.errors import ConfigError
from ..trainer_core.run import Epoch, TrainedRun

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def parse_epochs(text: str) -> list[int] | None:
    """`latest` → [-1], `all` → None, `1, 3, 5-7` → those numbers. Raises ConfigError for anything else."""
    word = text.strip().lower()
    if word in ("latest", "all"):
        return None if word == "all" else [-1]
    numbers: list[int] = []
    for part in filter(None, re.split(r"[,\s]+", word)):
        match = _RANGE.fullmatch(part)
        if not match:
            raise ConfigError(f'epochs "{text}" says nothing; write latest, all, a number, or several: 1, 3, 5-10')
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers:
        raise ConfigError("epochs is empty; write latest, all, a number, or several: 1, 3, 5-10")
    return numbers


def chosen_epochs(run: TrainedRun, text: str) -> list[Epoch]:
    """The epochs that the text asks for, of those saved. Raises RunError naming what there is."""
    numbers = parse_epochs(text)
    if numbers is None:
        run.epoch(-1)  # says so when there are none
        return list(run.epochs)
    return [run.epoch(number) for number in numbers]
