"""The tab, built under the stand-in for Gradio, on a studio with a folder of drawn pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.tab.stand_in import Page
from trainer_core.standalone.venue import StandaloneVenue
from trainer_core.studio import Studio
from trainer_core.tab import build_tab


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """A studio whose venue has a model that is never loaded."""
    return Studio(StandaloneVenue({"model.safetensors": tmp_path / "model.safetensors"}, tmp_path / "runs"))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, studio: Studio) -> Page:
    """The tab."""
    stand_in = Page()
    monkeypatch.setitem(sys.modules, "gradio", stand_in)  # type: ignore[arg-type]
    build_tab(studio)
    return stand_in


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    """Three pictures with captions, in a folder as kohya's scripts want it."""
    folder = tmp_path / "cats" / "2_red cat!"
    folder.mkdir(parents=True)
    for number, words in enumerate(("cat, hat, smile", "cat, hat", "cat, <b>sofa</b>")):
        Image.effect_noise((96, 80), 40 + number).convert("RGB").save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(words)
    return folder
