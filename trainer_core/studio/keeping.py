"""An epoch kept under a final name, with what the UIs show of it: a preview picture and a sidecar of words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files.atomic import write_atomically
from ..files.lora_file import load_lora, save_lora
from ..files.run_folder import check_name

_VERSIONS = {"sd_v1": "SD1", "sd_v2": "SD2", "sdxl": "SDXL"}  # ss_base_model_version → A1111's word


def promote(epoch_file: Path, preview: Path | None, folder: Path, name: str, trigger: str, notes: str) -> Path:
    """Copy an epoch to `<folder>/<name>.safetensors`, with `<name>.png` and `<name>.json` beside it; gives the file.

    The copy's metadata carries the new name. The sidecar has the keys that A1111 and Forge show. Raises RunError for a
    name that no file can have or that is taken: nothing is ever overwritten."""
    check_name(name)
    lora, picture, sidecar = (folder / f"{name}{suffix}" for suffix in (".safetensors", ".png", ".json"))
    for path in (lora, picture, sidecar):
        if path.exists():
            raise RunError(f"{path.name} exists already and is never overwritten; choose another name")
    tensors, metadata = load_lora(epoch_file)
    words = json.dumps(_sidecar(metadata, trigger, notes), indent=4, ensure_ascii=False)
    made: list[Path] = []
    try:  # the LoRA last: a UI that finds it finds all of it
        write_atomically(sidecar, lambda path: path.write_text(words, encoding="utf-8"), unique=True)
        made.append(sidecar)
        if preview is not None:
            write_atomically(picture, lambda path: shutil.copyfile(preview, path), unique=True)
            made.append(picture)
        save_lora(lora, tensors, {**metadata, "ss_output_name": name, "modelspec.title": name})
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    return lora


def require_new_stem(name: str, folder: Path) -> None:
    """Raise RunError where a LoRA anywhere below the folder is called so, in any case of letters: UIs tell LoRAs by
    name alone."""
    wanted = name.casefold()
    for path in folder.rglob("*.safetensors"):
        if path.stem.casefold() == wanted:
            raise RunError(f"there is a LoRA called {path.stem} already, in {path.parent.name}; choose another name")


def _sidecar(metadata: Mapping[str, str], trigger: str, notes: str) -> dict[str, Any]:
    version = metadata.get("ss_base_model_version", "")
    known = next((word for start, word in _VERSIONS.items() if version.startswith(start)), "Unknown")
    return {
        "description": metadata.get("modelspec.description", ""),
        "sd version": known,
        "activation text": trigger,
        "preferred weight": 1.0,
        "notes": notes,
    }
