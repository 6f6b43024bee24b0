"""A list of pictures with two lists of labels as a table: ComfyUI's lists know no second dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Table:
    """cells: [rows][columns], None where there is no picture."""

    cells: list[list[Image.Image | None]]
    columns: list[str]
    rows: list[str]


def arrange(batches: Sequence[Sequence[Image.Image]], labels: Sequence[str], prompts: Sequence[str]) -> Table:
    """Equal labels share a column, equal prompts a row; the pictures of one batch stand below each other.

    Where a list of labels is shorter its last one counts on, as everywhere in ComfyUI. A label that comes again with
    the same prompt begins a column of its own, so no picture hides another."""
    columns: dict[tuple[str, int], None] = {}
    rows: dict[tuple[str, int], None] = {}
    placed: dict[tuple[tuple[str, int], tuple[str, int]], Image.Image] = {}
    for index, batch in enumerate(batches):
        label, prompt = _at(labels, index), _at(prompts, index)
        turn = 0
        while ((label, turn), (prompt, 0)) in placed:
            turn += 1
        columns[label, turn] = None
        for number, picture in enumerate(batch):
            rows[prompt, number] = None
            placed[(label, turn), (prompt, number)] = picture
    seen = list(dict.fromkeys(prompt for prompt, _ in rows))
    ordered = sorted(rows, key=lambda row: seen.index(row[0]))  # a prompt's batch stays together
    cells = [[placed.get((column, row)) for column in columns] for row in ordered]
    return Table(cells, [label for label, _ in columns], [prompt if not number else "" for prompt, number in ordered])


def _at(values: Sequence[str], index: int) -> str:
    return values[min(index, len(values) - 1)] if values else ""
