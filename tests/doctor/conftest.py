"""Drawn photos: detailed enough that sharpness and likeness mean something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    """A picture of random shapes, a different one for each seed."""

    def make(seed: int, size: tuple[int, int] = (128, 96)) -> Image.Image:
        dice = np.random.default_rng(seed)
        coarse = Image.fromarray(dice.integers(0, 255, (6, 8, 3), np.uint8).astype(np.uint8))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.NEAREST), np.int16)
        return Image.fromarray((pixels + dice.integers(-20, 20, pixels.shape)).clip(0, 255).astype(np.uint8))

    return make
