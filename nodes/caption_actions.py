"""What nodes may do with caption files: show what they would say, write it, or take the newest change back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import folder_paths

from ..trainer_core.config import DatasetConfig
from ..trainer_core.data.examples import Example
from ..trainer_core.errors import DataError
from ..trainer_core.tagging.history import CaptionHistory
from .folders import is_inside

ACTIONS = ("show", "write", "undo")
ACTION_HELP = "show the captions; write them into the files; or undo the newest written change."


def check_action(dataset: DatasetConfig, action: str) -> None:
    """Raise DataError where a graph, which comes from anywhere, would write outside ComfyUI's input folder."""
    if action != "show" and not is_inside(Path(dataset.folder), folder_paths.get_input_directory()):
        raise DataError(
            f"{dataset.folder} lies outside ComfyUI's input folder, where a graph may write nothing; move it there, or "
            "use the command line: python -m trainer_core tag, and captions"
        )


def undone(dataset: DatasetConfig) -> str:
    """Take the newest change of the dataset's caption files back; says what that was."""
    found = CaptionHistory(Path(dataset.folder)).undo()
    if found is None:
        return "nothing to undo"
    left_alone = "".join(f"\nleft alone, as it was changed since: {name}" for name in found.left_alone)
    return f"undone: {found.what} ({found.files} files){left_alone}"


def shown_or_written(dataset: DatasetConfig, captions: Mapping[Example, str], action: str, what: str) -> list[str]:
    """A line for each caption, behind one that says how many files were written, if they were to be."""
    lines = [f"{example.name}: {caption}" for example, caption in captions.items()]
    if action != "write":
        return lines
    count = CaptionHistory(Path(dataset.folder)).write(captions, what)
    return [f"{count} caption files written", *lines]
