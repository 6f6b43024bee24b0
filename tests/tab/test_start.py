"""Folder, name, Train: what a person who chooses nothing gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tab.stand_in import Page
from trainer_core.standalone.venue import StandaloneVenue
from trainer_core.studio import Studio
from trainer_core.tab import build_tab
from trainer_core.tab.start import name_of


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch, studio: Studio) -> list[tuple]:
    """What the tab has put into the queue."""
    asked: list[tuple] = []
    monkeypatch.setattr(studio, "enqueue", lambda values, model="", title="": asked.append((values, model)) or "id")
    return asked


def test_train_needs_nothing_but_a_folder(page: Page, cats: Path, queued: list):
    said = page.happen("train", "click", page.values(dataset_folder=f'"{cats}"'))
    ((values, model),) = queued
    assert values["output_name"] == "red cat"
    assert values["sample"]["prompts"] == ["cat, hat, smile"]
    assert model == "model.safetensors"
    assert said["rooms"]["selected"] == "run"


def test_without_a_folder_it_says_what_is_missing(page: Page, queued: list):
    assert "folder with your pictures" in page.happen("train", "click", page.values())["said"]
    assert queued == []


def test_what_a_person_entered_wins(page: Page, cats: Path, queued: list):
    entered = {
        "dataset_folder": str(cats),
        "output_name": "tom",
        "sample_prompts": "a cat\n\na dog\n",
        "network_rank": 4,
    }
    page.happen("train", "click", page.values(**entered))
    values = queued[0][0]
    assert values["output_name"] == "tom" and values["sample"]["prompts"] == ["a cat", "a dog"]
    assert values["network"]["rank"] == 4


def test_previews_can_be_switched_off(page: Page, cats: Path, queued: list):
    page.happen("train", "click", page.values(dataset_folder=str(cats), draws_previews=False))
    assert not queued[0][0]["sample"].get("prompts")


def test_a_refusal_is_shown_as_text(page: Page, tmp_path: Path):
    said = page.happen("train", "click", page.values(dataset_folder=str(tmp_path / "<script>")))["said"]
    assert "<script>" not in said and "&lt;script&gt;" in said


def test_leaving_the_folder_says_what_is_in_it(page: Page, cats: Path):
    said = page.happen("dataset_folder", "blur", page.values(dataset_folder=str(cats)))
    assert "3 pictures, all with a caption" in said["said"]
    assert said["output_name"]["value"] == "red cat"


@pytest.mark.parametrize(
    ("folder", "name"),
    [("/a/10_my cat!", "my cat"), ("C:/x/zqk/", "zqk"), ("/ä/ねこ", "ねこ"), ("/a/???", "my_lora"), ("", "my_lora")],
)
def test_a_lora_is_called_like_its_folder(folder: str, name: str):
    assert name_of(folder) == name


def test_where_the_ui_s_own_model_counts_none_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cats: Path):
    page, asked = Page(), []
    monkeypatch.setitem(sys.modules, "gradio", page)  # type: ignore[arg-type]
    studio = Studio(StandaloneVenue({}, tmp_path / "runs"))
    monkeypatch.setattr(studio, "enqueue", lambda values, model="": asked.append(model))
    build_tab(studio)
    assert "lazylora_model" not in [each.elem_id for each in page.components]
    page.happen("train", "click", page.values(dataset_folder=str(cats)))
    assert asked == [""]


@pytest.mark.parametrize("name", ["dataset_folder", "dataset_masks_dir", "dataset_reg_data_dir"])
def test_only_folders_of_the_venue_are_looked_into(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cats: Path, name: str
):
    page = Page()
    monkeypatch.setitem(sys.modules, "gradio", page)  # type: ignore[arg-type]
    build_tab(Studio(StandaloneVenue({}, tmp_path / "runs", [cats.parent])))
    (tmp_path / "elsewhere").mkdir()
    given = page.values(**{"dataset_folder": str(cats), name: str(tmp_path / "elsewhere")})
    for button, said in (("look", "dataset_summary"), ("train", "said"), ("write_edit", "edit_said")):
        assert "does not let its pages use" in page.happen(button, "click", given)[said]
