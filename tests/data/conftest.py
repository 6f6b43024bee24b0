"""What the data tests share: drawn pictures, configs and real photos."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from trainer_core.config import DatasetConfig

settings.register_profile("data", max_examples=60, deadline=None)
settings.load_profile("data")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Draw a picture of smooth colours, different for each seed, and save it."""

    def draw_one(path: Path, size: tuple[int, int] = (96, 64), seed: int = 0, **save_options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        gradient(size, seed).save(path, **save_options)
        return path

    return draw_one


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., DatasetConfig]:
    """A DatasetConfig on the test's own folder."""
    return lambda **settings: DatasetConfig(**{"folder": str(tmp_path), "resolution": 64, **settings})


@pytest.fixture
def photos() -> Path:
    """Folder of folders of real photos: LAZYLORA_PHOTOS, or shared/data beside the repository."""
    folder = Path(os.environ.get("LAZYLORA_PHOTOS") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "cat").is_dir():
        pytest.skip("no photos: set LAZYLORA_PHOTOS to a folder with cat/, dog/ … of DreamBooth photos")
    return folder


def gradient(size: tuple[int, int], seed: int = 0) -> Image.Image:
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, seed * 37 % 256)], axis=-1).astype(np.uint8))
