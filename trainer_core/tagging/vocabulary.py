"""What a tagger's outputs mean: WD's selected_tags.csv, and the newer tag_mapping.json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError

CATEGORIES = ("rating", "general", "character", "copyright", "artist", "meta", "model", "quality")
_DANBOORU_CATEGORIES = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta", "9": "rating"}


@dataclass(frozen=True)
class Label:
    """One thing that a tagger can see. name: as boorus write it, `long_hair`. category: one of CATEGORIES."""

    name: str
    category: str


Vocabulary = Mapping[int, Label]  # by place in the model's output; places without a meaning are left out


def read_vocabulary(path: Path) -> Vocabulary:
    """The labels of a list of tags, a .csv or a .json. Raises DataError for a file that cannot be read or is none."""
    return read_selected_tags(path) if path.suffix == ".csv" else read_tag_mapping(path)


def read_selected_tags(path: Path) -> Vocabulary:
    """The rows of a selected_tags.csv (tag_id,name,category,count): one label for each output, in their order.

    Categories go by their column: 9 rating, 0 general, 4 character, and Danbooru's other numbers. Raises DataError for
    a file that cannot be read or is none."""
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        return _labels(rows, path)
    except csv.Error as error:
        raise DataError(f"{path}: is no list of tags ({error}); download it again") from None


def _labels(rows: csv.DictReader, path: Path) -> Vocabulary:
    if rows.fieldnames is None or not {"name", "category"} <= set(rows.fieldnames):
        raise DataError(f"{path}: has no columns name and category; download the model's own selected_tags.csv again")
    return {place: Label(row["name"], _danbooru_category(row["category"], path)) for place, row in enumerate(rows)}


def read_tag_mapping(path: Path) -> Vocabulary:
    """The labels of a tag_mapping.json, in either of the forms that cl_tagger comes with.

    {"0": {"tag": …, "category": "General"}, …} or {"idx_to_tag": {"0": …}, "tag_to_category": {…: "General"}}. Raises
    DataError for a file that cannot be read or is none."""
    try:
        values = json.loads(_text(path))
        if "idx_to_tag" in values:
            categories = values["tag_to_category"]
            found = {int(place): (name, categories[name]) for place, name in values["idx_to_tag"].items()}
        else:
            found = {int(place): (entry["tag"], entry["category"]) for place, entry in values.items()}
        return {place: Label(name, _named_category(category, path)) for place, (name, category) in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is no tag mapping ({error!r}); download it again") from None


def _danbooru_category(number: str | None, path: Path) -> str:
    category = _DANBOORU_CATEGORIES.get((number or "").strip())
    if category is None:
        raise DataError(f"{path}: has tags of the category {number!r}, which nobody knows; download it again")
    return category


def _named_category(name: Any, path: Path) -> str:
    category = str(name).lower()
    if category not in CATEGORIES:
        raise DataError(f"{path}: has tags of the category {name!r}, which nobody knows; download it again")
    return category


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); download it again") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text in UTF-8; download it again") from None
