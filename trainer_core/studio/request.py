"""A page's wish to train, checked before it is queued: settings, names, and where it would read and write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..data.examples import Example
from ..errors import ConfigError, RunError, did_you_mean
from ..files.run_folder import check_name
from ..hosts.venue import Venue
from ..settings import from_json


def requested(values: Mapping[str, Any], model: str, venue: Venue) -> TrainConfig:
    """The settings of a run in this venue; without an output_dir it is made where the UI finds LoRAs.

    Raises ConfigError for settings that do not hold, a model that is not offered or a folder that may not be named
    here, RunError for a name that no file can have or that another LoRA has."""
    config = from_json(
        TrainConfig, values if values.get("output_dir") else {**values, "output_dir": str(venue.runs_dir)}
    )
    check_name(config.output_name)
    config = _with_allowed_places(config, venue)
    _require_own_stems(config, venue)
    if model and model not in venue.models():
        hint = did_you_mean(model, venue.models()) or "; choose one of those that are offered"
        raise ConfigError(f'there is no model "{model}" here{hint}')
    return config


def require_allowed(path: str | Path, setting: str, venue: Venue) -> Path:
    """The path, as people paste it, as one that may be read or written. Raises ConfigError where it may not be named in
    this venue."""
    place = Path(str(path).strip().strip('"')).expanduser()
    if not venue.allows(place):
        raise ConfigError(f'"{setting}": {venue.name} does not let its pages use {path}; choose one of its own folders')
    return place


def require_allowed_pictures(examples: Iterable[Example], venue: Venue) -> None:
    """A dataset file names folders of its own, and folders hold links. Raises ConfigError for a picture that lies where
    this venue lets nobody look."""
    for example in examples:
        if not venue.allows(example.path):
            raise ConfigError(
                f"{example.path}: {venue.name} does not let its pages use this picture; leave its folder or link out"
            )


def _with_allowed_places(config: TrainConfig, venue: Venue) -> TrainConfig:
    def allowed(path: str, setting: str) -> str:
        return str(require_allowed(path, setting, venue)) if path.strip() else ""

    dataset = config.dataset
    if not dataset.folder.strip():
        raise ConfigError('"dataset.folder" is empty; choose a folder of pictures')
    return replace(
        config,
        output_dir=allowed(config.output_dir, "output_dir"),
        logging_dir=allowed(config.logging_dir, "logging_dir"),
        dataset=replace(
            dataset,
            folder=allowed(dataset.folder, "dataset.folder"),
            reg_data_dir=allowed(dataset.reg_data_dir, "dataset.reg_data_dir"),
            masks_dir=allowed(dataset.masks_dir, "dataset.masks_dir"),
        ),
    )


def _require_own_stems(config: TrainConfig, venue: Venue) -> None:
    """Raise RunError where a LoRA of another folder is called as an epoch will be: UIs tell LoRAs by name alone."""
    epoch = re.compile(re.escape(config.output_name) + r"-\d{6}", re.IGNORECASE)
    own = (Path(config.output_dir) / config.output_name).resolve()
    for path in venue.runs_dir.rglob("*.safetensors"):
        if epoch.fullmatch(path.stem) and path.parent.resolve() != own:
            raise RunError(
                f"there is a LoRA called {path.stem} already, in {path.parent.name}; choose another output_name"
            )
