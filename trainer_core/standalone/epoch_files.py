"""Epochs by the name that `<lora:…>` takes, and what their files say of how they were trained."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config import TrainConfig
from ..errors import RunError
from ..files.lora_file import read_metadata
from ..files.metadata import SETTINGS_KEY
from ..settings import from_json, merged

_PLACES = {"output_name": "unnamed", "output_dir": ".", "dataset": {"folder": "."}}  # what a file does not tell


@dataclass(frozen=True)
class SavedEpoch:
    """An epoch's file. config: the settings that it was trained with. model: the name of its base model, or ""."""

    path: Path
    config: TrainConfig
    model: str


def find_epoch(stem: str, folder: Path) -> SavedEpoch:
    """The epoch of that name in `folder` or in a run's folder inside. Raises RunError where there is none of ours."""
    path = next((each for each in _files(folder) if each.stem == stem), None)
    if path is None:
        raise RunError(f'there is no epoch "{stem}" in {folder}; look at the list of runs again')
    metadata = read_metadata(path)
    try:
        config = from_json(TrainConfig, merged(_PLACES, json.loads(metadata[SETTINGS_KEY])))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise RunError(f"{path.name} was not trained by LazyLoRA; choose one of its runs") from None
    return SavedEpoch(path, config, metadata.get("ss_sd_model_name", ""))


def _files(folder: Path) -> Iterable[Path]:
    yield from folder.glob("*.safetensors")
    yield from folder.glob("*/*.safetensors")
