"""A first look at a folder of pictures: how many, how many with captions, and what the first is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import DatasetConfig
from ..data.captions import prepared_caption, settings_of
from ..data.dataset import read_dataset
from ..errors import ConfigError
from ..hosts.venue import Venue
from ..settings import from_json
from ..studio.request import require_allowed, require_allowed_pictures
from ..telling import many


@dataclass(frozen=True)
class Glance:
    """words: what a person wants to know first. caption: of the first picture, as it is trained."""

    words: str
    caption: str
    warnings: tuple[str, ...]


def allowed_dataset(values: Mapping[str, Any], venue: Venue) -> DatasetConfig:
    """The settings, checked. Raises ConfigError without a folder, or for one that may not be named in this venue."""
    if not values.get("folder"):
        raise ConfigError("give the folder with your pictures first, at the top")
    config = from_json(DatasetConfig, values)
    for name in ("folder", "masks_dir", "reg_data_dir"):
        if place := getattr(config, name):
            require_allowed(place, f"dataset.{name}", venue)
    return config


def glance(values: Mapping[str, Any], venue: Venue) -> Glance:
    """Look into the folder of these dataset settings. Raises DataError for a folder that cannot be trained on,
    ConfigError for settings that do not hold or a folder that may not be named here."""
    dataset = read_dataset(config := allowed_dataset(values, venue))
    require_allowed_pictures(dataset.examples, venue)
    examples = dataset.subjects
    without = sum(not example.caption.strip() for example in examples)
    captions = (
        "all with a caption" if not without else f"{without} without a caption" if without < len(examples) else ""
    )
    found = f"{many(len(examples), 'picture')}, {captions or 'none with a caption, which is fine for one thing'}"
    return Glance(found, prepared_caption(examples[0].caption, settings_of(examples[0], config)), dataset.warnings)
