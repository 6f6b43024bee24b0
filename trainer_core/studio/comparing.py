"""Two runs, or many epochs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import RunError
from ..grid import labelled_grid
from ..recipes.report import flattened
from .runs import SavedRun

_PLACES = {"output_name", "output_dir", "logging_dir"}
_MOST_COLUMNS = 24


def differences(first: SavedRun, second: SavedRun) -> list[dict[str, Any]]:
    """The settings in which two runs differ: setting (dotted), first, second; their names and places left out."""
    one, other = flattened(first.settings), flattened(second.settings)
    return [
        {"setting": path, "first": one.get(path), "second": other.get(path)}
        for path in dict.fromkeys([*one, *other])
        if one.get(path) != other.get(path) and path not in _PLACES
    ]


def sheet(runs: Sequence[SavedRun]) -> Image.Image:
    """Every epoch's previews as one picture: a column for each epoch of each run, a row for each prompt; of more epochs
    than fit, evenly spread ones. Raises RunError where there are none."""
    columns = _spread([column for run in runs for column in _columns(run)], _MOST_COLUMNS)
    if not columns:
        raise RunError("there are no previews to show; give the recipe a preview prompt (sample.prompts)")
    rows = max(len(previews) for _, previews in columns)
    cells = [[_picture(previews, row) for _, previews in columns] for row in range(rows)]
    return labelled_grid(cells, [stem for stem, _ in columns], _prompts(runs, rows))


def _columns(run: SavedRun) -> list[tuple[str, list[Path]]]:
    """The epochs that have previews: their label, and those."""
    return [(run.folder.epoch_stem(epoch), previews) for epoch, previews in run.previews().items()]


def _prompts(runs: Sequence[SavedRun], rows: int) -> list[str]:
    """What stands left of the rows: the prompts, where all runs have the same."""
    asked = {tuple(run.prompts) for run in runs}
    prompts = asked.pop() if len(asked) == 1 else ()
    return [prompts[row] if row < len(prompts) else "" for row in range(rows)]


def _picture(previews: Sequence[Path], row: int) -> Image.Image | None:
    if row >= len(previews):
        return None
    try:
        with Image.open(previews[row]) as picture:
            return picture.convert("RGB")
    except OSError:
        return None


def _spread(columns: Sequence[Any], most: int) -> list[Any]:
    if len(columns) <= most:
        return list(columns)
    return [columns[round(place * (len(columns) - 1) / (most - 1))] for place in range(most)]
