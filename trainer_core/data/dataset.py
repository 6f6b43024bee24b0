"""All that a run is trained on: the pictures and captions, their masks, the regularisation pictures."""

from __future__ import annotations

from ..config import DatasetConfig
from .captions import check_caption_settings
from .edits import with_edits
from .examples import Dataset, scan
from .masks import with_masks
from .regularisation import with_regularisation


def read_dataset(config: DatasetConfig) -> Dataset:
    """The folders of the settings, read and checked, captions edited; no pixel is decoded.

    Raises DataError for what cannot be trained on and ConfigError for settings that contradict each other."""
    check_caption_settings(config)
    return with_regularisation(with_masks(with_edits(scan(config), config), config), config)
