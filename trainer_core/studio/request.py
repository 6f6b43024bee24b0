"""A page's wish to train, checked before it is queued: settings, names, and where it would read and write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..errors import ConfigError, RunError, did_you_mean
from ..files.run_folder import check_name
from ..hosts.venue import Venue
from ..settings import from_json, merged


def requested(values: Mapping[str, Any], model: str, venue: Venue) -> TrainConfig:
    """The settings of a run in this venue; without an output_dir it is made where the UI finds LoRAs.

    Raises ConfigError for settings that do not hold, a model that is not offered or a folder that may not be named
    here, RunError for a name that no file can have."""
    config = from_json(TrainConfig, merged({"output_dir": str(venue.runs_dir)}, _given(values)))
    check_name(config.output_name)
    if not config.dataset.folder.strip():
        raise ConfigError('"dataset.folder" is empty; choose a folder of pictures')
    for setting, path in _places(config):
        require_allowed(path, setting, venue)
    _require_own_stems(config, venue)
    if model and model not in venue.models():
        hint = did_you_mean(model, venue.models()) or "; choose one of those that are offered"
        raise ConfigError(f'there is no model "{model}" here{hint}')
    return config


def require_allowed(path: str | Path, setting: str, venue: Venue) -> Path:
    """The path, as it may be read or written. Raises ConfigError where it may not be named in this venue."""
    place = Path(str(path).strip().strip('"')).expanduser()
    if not venue.allows(place):
        raise ConfigError(f'"{setting}": {venue.name} does not let its pages use {path}; choose another folder')
    return place


def _require_own_stems(config: TrainConfig, venue: Venue) -> None:
    """Raise RunError where a LoRA of another folder is called as an epoch will be: UIs tell LoRAs by name alone."""
    epoch = re.compile(re.escape(config.output_name) + r"-\d{6}", re.IGNORECASE)
    own = (Path(config.output_dir).expanduser() / config.output_name).resolve()
    for path in venue.runs_dir.rglob("*.safetensors"):
        if epoch.fullmatch(path.stem) and path.parent.resolve() != own:
            raise RunError(
                f"there is a LoRA called {path.stem} already, in {path.parent.name}; choose another output_name"
            )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without an output_dir that was left empty."""
    return {name: value for name, value in values.items() if name != "output_dir" or value}


def _places(config: TrainConfig) -> Iterator[tuple[str, str]]:
    yield "output_dir", config.output_dir
    yield "dataset.folder", config.dataset.folder
    optional = {
        "dataset.reg_data_dir": config.dataset.reg_data_dir,
        "dataset.masks_dir": config.dataset.masks_dir,
        "logging_dir": config.logging_dir,
    }
    yield from ((setting, path) for setting, path in optional.items() if path)
