"""Epochs and runs deleted, but for anything that is not provably ours."""

from __future__ import annotations

from pathlib import Path

from ..errors import RunError
from ..files.lora_file import read_metadata
from ..files.metadata import SETTINGS_KEY
from .runs import SavedRun

_RECORDS = ("run.json", "events.jsonl", "resume.state")
_LOCK = ".lock"


def delete(run: SavedRun, number: int | None) -> None:
    """Delete one epoch with its previews; without a number the run: its epochs, previews, log and record, and then the
    folder where nothing of anybody else's is left in it.

    Raises RunError while it trains, for an epoch's file that somebody else has put there, and where it cannot be
    done."""
    files = [run.epoch_file(number)] if number is not None else [path for _, path in run.folder.epochs()]
    for file in files:
        _require_ours(file)
    with run.folder.locked():
        try:
            for file in files:
                file.unlink()
            for preview in _previews(run, number):
                preview.unlink()
            if number is None:
                _delete_record(run.folder.folder)
        except OSError as error:
            raise RunError(f"{run.folder.folder} cannot be deleted ({error.strerror}); close what uses it") from None
    if number is None:
        _delete_if_empty(run.folder.folder)


def _require_ours(file: Path) -> None:
    if SETTINGS_KEY not in read_metadata(file):
        raise RunError(f"{file.name} was not trained here by what its metadata says; delete it by hand")


def _previews(run: SavedRun, number: int | None) -> list[Path]:
    """The previews of one epoch, or of all; those of epochs without a file among them."""
    if (run.folder.folder / "samples").is_symlink():
        return []
    found = run.previews()
    return found.get(number, []) if number is not None else [path for each in found.values() for path in each]


def _delete_record(folder: Path) -> None:
    for name in _RECORDS:
        (folder / name).unlink(missing_ok=True)
    if not (folder / "logs").is_symlink():
        for log in (folder / "logs").glob("events.out.tfevents.*"):
            log.unlink()


def _delete_if_empty(folder: Path) -> None:
    (folder / _LOCK).unlink(missing_ok=True)
    for each in (folder / "samples", folder / "logs", folder):
        try:
            each.rmdir()
        except OSError:  # something else lies in it: that stays
            continue
