"""The runs on disk as a person looks through them: their epochs with previews, kept under a final name, deleted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..errors import RunError
from ..files.run_folder import RunFolder
from ..recipes.own import read_own
from ..recipes.report import flattened
from ..settings import from_json


class NotThere(RunError):
    """What was asked for was there once, or never."""


@dataclass(frozen=True)
class SavedRun:
    """A run's folder with what its record says."""

    folder: RunFolder
    record: dict[str, Any]

    @property
    def id(self) -> str:
        """Stands for the folder, so that no path is ever sent."""
        return opaque(self.folder.folder)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as they were recorded; later versions may know some of them no more."""
        settings = self.record.get("settings")
        return settings if isinstance(settings, dict) else {}

    @property
    def trigger(self) -> str:
        """The word that the run's captions begin with, "" where there is none."""
        return str(flattened(self.settings).get("dataset.trigger_word", ""))

    @property
    def prompts(self) -> list[str]:
        """What the previews show."""
        prompts = flattened(self.settings).get("sample.prompts")
        return [str(each) for each in prompts] if isinstance(prompts, list) else []

    def config(self) -> TrainConfig:
        """The settings, those that hold no more at their defaults. Raises ConfigError where too little is left."""
        return from_json(TrainConfig, read_own(self.settings).values)

    def previews(self) -> dict[int, list[Path]]:
        """Each epoch's preview pictures, in the order of the prompts; epochs without any are left out."""
        pattern = re.compile(re.escape(self.folder.stem) + r"-(\d{6})-\d{2}\.png")
        found: dict[int, list[Path]] = {}
        for path in sorted((self.folder.folder / "samples").glob("*.png")):
            if match := pattern.fullmatch(path.name):
                found.setdefault(int(match[1]), []).append(path)
        return found

    def as_json(self) -> dict[str, Any]:
        """As a page shows it."""
        return {
            "id": self.id,
            "name": self.folder.stem,
            "finished": bool(self.record.get("finished")),
            "trigger": self.trigger,
            "epochs": self.epochs(),
        }

    def epochs(self) -> list[dict[str, Any]]:
        """Each saved epoch as a page shows it."""
        previews = self.previews()
        return [
            {
                "number": number,
                "stem": path.stem,
                "bytes": path.stat().st_size,
                "previews": [opaque(each) for each in previews.get(number, [])],
            }
            for number, path in self.folder.epochs()
        ]

    def epoch_file(self, number: int) -> Path:
        """The file of a saved epoch. Raises RunError, naming what there is."""
        found = dict(self.folder.epochs())
        if number not in found:
            saved = ", ".join(map(str, found)) or "none yet"
            raise RunError(f"{self.folder.stem} has no epoch {number}; saved are {saved}")
        return found[number]


def saved_runs(roots: Iterable[Path]) -> list[SavedRun]:
    """The runs in these folders, newest first."""
    found = {run.folder.folder: run for root in roots for run in _runs_in(root)}
    return sorted(found.values(), key=lambda run: -(run.folder.folder / "run.json").stat().st_mtime)


def run_with(id: str, roots: Iterable[Path]) -> SavedRun:
    """The run with that id. Raises NotThere where there is none."""
    for run in saved_runs(roots):
        if run.id == id:
            return run
    raise NotThere("this run is not there any more; look at the list again")


def opaque(path: Path) -> str:
    """A name for a file or folder that says nothing of it: 20 hex digits."""
    return hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _runs_in(root: Path) -> Iterator[SavedRun]:
    try:
        folders = [each for each in root.iterdir() if each.is_dir() and not each.is_symlink()]
    except OSError:
        return
    for folder in folders:
        record = _record(folder)
        if record is not None:
            yield SavedRun(RunFolder(folder, record["key"]), record)


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None
