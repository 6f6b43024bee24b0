"""Every picture's measures, kept by content on disk: a second report costs no decoding."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..data.examples import Example
from ..data.pictures import read_bytes
from ..errors import DataError, LazyLoraError
from ..files.atomic import write_atomically
from .measures import LAYOUT, Measures, measure

_FILE = "measures.json"


def measured(examples: Sequence[Example], folder: Path) -> dict[str, Measures]:
    """The measures of every picture by its digest; those that cannot be decoded are left out.

    folder: where they are kept, also those of other datasets. Where it cannot be written, pictures are measured anew
    each time."""
    kept = _read(folder / _FILE)
    found = {each.digest: kept[each.digest] for each in examples if each.digest in kept}
    missing = list({each.digest: each for each in examples if each.digest not in found}.values())
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="measure") as pool:
        new = {each.digest: it for each, it in zip(missing, pool.map(_measured, missing)) if it is not None}
    if new:
        _write(folder / _FILE, kept | new)
    return found | new


def _measured(example: Example) -> Measures | None:
    try:
        return measure(read_bytes(example.path), example.path)
    except DataError:
        return None


def _read(path: Path) -> dict[str, Measures]:
    """What is kept; nothing where there is nothing, or nothing that can be trusted."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry["layout"] != LAYOUT:
            return {}
        pictures = entry["pictures"].items()
        return {
            digest: Measures(None if looks is None else int(looks, 16) & 2**64 - 1, float(blur))
            for digest, (looks, blur) in pictures
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(path: Path, found: dict[str, Measures]) -> None:
    pictures = {
        digest: (None if each.looks is None else f"{each.looks:016x}", round(each.blur, 4))
        for digest, each in found.items()
    }
    text = json.dumps({"layout": LAYOUT, "pictures": pictures})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
    except (OSError, LazyLoraError):
        return
