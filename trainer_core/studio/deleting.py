"""Epochs and runs deleted, but for anything that is not provably ours."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import RunError
from .runs import SavedRun

_OURS = ("run.json", "events.jsonl", "resume.state", ".lock")


def delete(run: SavedRun, number: int | None) -> None:
    """Delete one epoch with its previews; without a number the run: its epochs, previews, log and record, and then the
    folder where nothing of anybody else's is left in it. Raises RunError while it trains or where it cannot be done."""
    with run.folder.locked():
        try:
            for epoch in [number] if number is not None else [each for each, _ in run.folder.epochs()]:
                run.epoch_file(epoch).unlink()
            for preview in _previews(run, number):
                preview.unlink()
            if number is None:
                _delete_record(run.folder.folder)
        except OSError as error:
            raise RunError(f"{run.folder.folder} cannot be deleted ({error.strerror}); close what uses it") from None
    if number is None:
        _delete_if_empty(run.folder.folder)


def _previews(run: SavedRun, number: int | None) -> list[Path]:
    """The previews of one epoch, or of all; those of epochs without a file among them."""
    if number is not None:
        return run.previews(number)
    pattern = re.compile(re.escape(run.folder.stem) + r"-\d{6}-\d{2}\.png")
    return [path for path in (run.folder.folder / "samples").glob("*.png") if pattern.fullmatch(path.name)]


def _delete_record(folder: Path) -> None:
    for name in _OURS[:-1]:
        (folder / name).unlink(missing_ok=True)
    for log in (folder / "logs").glob("events.out.tfevents.*"):
        log.unlink()


def _delete_if_empty(folder: Path) -> None:
    (folder / _OURS[-1]).unlink(missing_ok=True)
    for each in (folder / "samples", folder / "logs", folder):
        try:
            each.rmdir()
        except OSError:  # something else lies in it: that stays
            continue
