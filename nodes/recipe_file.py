"""Recipes in a graph: which files a node may read, and what a recipe overrules."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..trainer_core.config import layered
from ..trainer_core.errors import ConfigError
from ..trainer_core.settings import from_json, to_json

C = TypeVar("C")

# A recipe comes from somebody else's disk: where files lie and how the LoRA is called, the graph says.
PLACES = ("output_name", "output_dir", "logging_dir", "folder", "reg_data_dir", "masks_dir")


def recipe_file(name: str, folders: Iterable[str]) -> Path:
    """The file of that name, or full path, inside one of ComfyUI's own folders.

    A graph comes from anywhere and shows what it reads, so it may not read elsewhere. Raises ConfigError."""
    wanted = name.strip().strip('"')
    for folder in folders:
        root = Path(os.path.abspath(folder))
        path = Path(os.path.abspath(root / wanted))
        if path.is_relative_to(root) and path.is_file():
            return path
    raise ConfigError(
        f"{wanted}: there is no such recipe in ComfyUI's input, output or LoRA folders; "
        "put it into the input folder, or paste its text"
    )


def overruled(config: C, recipe: Mapping[str, Any] | None, but_not: Collection[str] = ()) -> C:
    """The settings with those of the recipe in their place, but for places and the groups named in `but_not`."""
    if not recipe:
        return config
    taken = {key: value for key, value in recipe.items() if key not in (*PLACES, *but_not)}
    return from_json(type(config), layered(to_json(config), taken))


def words(text: str) -> list[str]:
    """Keys as people list them, by commas, spaces or lines."""
    return text.replace(",", " ").split()
