"""What the tagging tests share: drawn datasets, and small ONNX taggers that are really run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.tagging.small_taggers import write_cl_tagger, write_wd_tagger
from trainer_core.config import DatasetConfig
from trainer_core.data.examples import Dataset, scan


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Plain pictures with these captions, None for no caption file, in a folder of the test."""

    def make(captions: Sequence[str | None], folder: str = "cats") -> Dataset:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for number, caption in enumerate(captions):
            Image.new("RGB", (64, 48), (40 * number % 256, 90, 200)).save(root / f"{number:02}.png")
            if caption is not None:
                (root / f"{number:02}.txt").write_bytes(caption.encode())
        return scan(DatasetConfig(str(root), resolution=64))

    return make


@pytest.fixture
def wd_tagger(tmp_path: Path) -> Callable[..., Path]:
    """`write_wd_tagger` in a folder of the test."""
    pytest.importorskip("onnxruntime")
    return lambda weights, name="wd", **options: write_wd_tagger(tmp_path / "taggers" / name, weights, **options)


@pytest.fixture
def cl_tagger(tmp_path: Path) -> Callable[..., Path]:
    """`write_cl_tagger` in a folder of the test."""
    pytest.importorskip("onnxruntime")
    return lambda weights, mapping, **options: write_cl_tagger(tmp_path / "taggers" / "cl", weights, mapping, **options)
