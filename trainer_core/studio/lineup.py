"""What is to be trained, in an order that a person can change."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..errors import RunError
from .account import Account
from .turns import BaseModel

WAITING, RUNNING, STOPPED, FAILED, FINISHED = "waiting", "running", "stopped", "failed", "finished"
_MOST_ENTRIES = 500


@dataclass
class Entry:
    """A recipe in the queue. model: one of the venue's, "" for the one that the UI has loaded. said: what became of it,
    in a sentence."""

    config: TrainConfig
    model: str
    title: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = WAITING
    said: str = ""
    base: BaseModel = field(default_factory=BaseModel)
    account: Account = field(default_factory=Account)

    def as_json(self) -> dict[str, Any]:
        """As a page shows it."""
        return {"id": self.id, "title": self.title, "state": self.state, "said": self.said}


class Lineup:
    """The queue: entries that wait, that which trains, and those that are over, in the order in which they are shown.

    Not safe to use from several threads by itself."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Put it last. Raises RunError where the queue is full of entries that are not over."""
        while len(self.entries) >= _MOST_ENTRIES:
            over = next((each for each in self.entries if each.state in (FINISHED, FAILED)), None)
            if over is None:
                raise RunError(f"the queue holds {_MOST_ENTRIES} recipes; remove some first")
            self.entries.remove(over)
        self.entries.append(entry)

    def get(self, entry_id: str) -> Entry:
        """The entry with that id. Raises RunError where there is none."""
        for entry in self.entries:
            if entry.id == entry_id:
                return entry
        raise RunError("this recipe is not in the queue any more; look at the queue again")

    def of_run(self, folder: Path) -> Entry | None:
        """The newest entry that has trained into this folder."""
        return next((each for each in reversed(self.entries) if each.account.folder == folder), None)

    def move(self, entry_id: str, position: int) -> None:
        """Put an entry at that place of the list, counted from 0; behind the last where that is too far."""
        entry = self.get(entry_id)
        self.entries.remove(entry)
        self.entries.insert(max(0, position), entry)

    def remove(self, entry_id: str) -> None:
        """Take an entry out; what it has trained stays on disk. Raises RunError while it trains."""
        entry = self.get(entry_id)
        if entry.state == RUNNING:
            raise RunError(f"{entry.title} is training; stop it before you remove it")
        self.entries.remove(entry)

    def resume(self, entry_id: str) -> None:
        """Have a stopped or failed entry wait again, before all others that wait. Raises RunError for any other."""
        entry = self.get(entry_id)
        if entry.state not in (STOPPED, FAILED):
            raise RunError(f"{entry.title} is {entry.state}; only what was stopped or has failed can be resumed")
        entry.state, entry.said = WAITING, ""
        self.entries.remove(entry)
        first = next((place for place, each in enumerate(self.entries) if each.state == WAITING), len(self.entries))
        self.entries.insert(first, entry)

    def next_waiting(self) -> Entry | None:
        """The entry whose turn it is."""
        return next((each for each in self.entries if each.state == WAITING), None)
