"""Dataset, recipe and epochs: what the buttons of these rooms do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tab.stand_in import Page
from trainer_core.errors import ConfigError
from trainer_core.hosts.venue import GridRequest
from trainer_core.studio import Studio
from trainer_core.studio.recipe_room import looked_ahead
from trainer_core.tab import build_tab, markup
from trainer_core.tab.captions import CaptionRoom
from trainer_core.tab.epochs_room import _runs_by_title, grid_request, thinned_evenly
from trainer_core.tab.glance import glance
from trainer_core.tab.gradio_versions import uploaded


class Table:
    """A pandas frame, as far as it is asked."""

    def __init__(self, rows: list[list]):
        self.iloc = {(row, column): value for row, cells in enumerate(rows) for column, value in enumerate(cells)}


# -- dataset


def test_the_folder_is_looked_over(page: Page, cats: Path):
    seen = page.happen("look", "click", page.values(dataset_folder=str(cats)))
    assert seen["tags"][:2] == [["cat", 3, "100%"], ["hat", 2, "67%"]]
    assert len(seen["gallery"]) == 3 and "<b>3</b><span>pictures</span>" in seen["dataset_summary"]
    assert seen["undo_edit"]["interactive"] is False


def test_a_tag_that_is_clicked_shows_its_pictures(page: Page, cats: Path):
    given = page.values(dataset_folder=str(cats), tags=Table([["cat", 3, "100%"], ["hat", 2, "67%"]]))
    chosen = page.happen("tags", "select", given, SimpleNamespace(index=[1, 0]))
    assert chosen["edited_tags"] == "hat"
    assert [caption for _, caption in chosen["gallery"]] == ["cat, hat, smile", "cat, hat"]


def test_an_edit_is_shown_written_and_undone(page: Page, cats: Path):
    given = page.values(dataset_folder=str(cats), edited_tags="hat")
    before = [path.read_bytes() for path in sorted(cats.glob("*.txt"))]
    shown = page.happen("show_edit", "click", given)
    assert "2 captions would change" in shown["edit_said"] and set(shown) == {"edit_said"}
    assert [path.read_bytes() for path in sorted(cats.glob("*.txt"))] == before
    written = page.happen("write_edit", "click", given)
    assert "2 caption files written" in written["edit_said"]
    assert (cats / "0.txt").read_text() == "cat, smile"
    assert written["undo_edit"]["value"] == "Undo: remove hat (2 files)"
    assert "undone: remove hat" in page.happen("undo_edit", "click", given)["edit_said"]
    assert [path.read_bytes() for path in sorted(cats.glob("*.txt"))] == before
    assert "nothing to undo" in page.happen("undo_edit", "click", given)["edit_said"]


def test_captions_are_shown_as_text(page: Page, cats: Path):
    given = page.values(dataset_folder=str(cats), operation="Put tags in front", edited_tags="<i>x</i>")
    said = page.happen("show_edit", "click", given)["edit_said"]
    assert "<b>" not in said and "<i>" not in said and "&lt;b&gt;sofa" in said


def test_an_edit_that_cannot_be_done_says_why(page: Page, cats: Path):
    given = page.values(dataset_folder=str(cats), operation="Rename tags, one by one", edited_tags="cat, hat")
    assert "give a name for each" in page.happen("write_edit", "click", given)["edit_said"]


# -- recipe


def test_a_preset_keeps_what_is_personal(page: Page):
    given = page.values(preset="AdamW lazy")
    filled = page.happen("preset", "input", given)
    assert filled["network_rank"]["value"] == 128 and filled["optimizer_optimizer"]["value"] == "AdamW"
    assert not {"dataset_folder", "output_name", "dataset_trigger_word", "sample_prompts"} & set(filled)


def test_pasted_settings_fill_the_fields_and_are_reported(page: Page):
    text = json.dumps({"LoRA_type": "Standard", "network_dim": 8, "network_alpha": 4, "optimizer": "AdamW"})
    filled = page.happen("take_pasted", "click", page.values(pasted=text))
    assert filled["network_rank"]["value"] == 8
    assert "network_dim" in filled["import_report"]["value"] and filled["import_report"]["visible"]


def test_what_is_no_recipe_is_refused_in_a_sentence(page: Page):
    refused = page.happen("take_pasted", "click", page.values(pasted="hello"))
    assert set(refused) == {"about_recipe"} and "lazylora-wrong" in refused["about_recipe"]


def test_only_uploaded_files_are_read(tmp_path: Path):
    with pytest.raises(ConfigError, match="drop it again"):
        uploaded("/etc/passwd")
    assert uploaded(SimpleNamespace(name=str(tmp_path / "a.json"))).name == "a.json"  # pytest's are in the same place


def test_the_outlook_says_what_will_happen(page: Page, cats: Path):
    seen = page.happen("room_recipe", "select", page.values(dataset_folder=str(cats), dataset_resolution=64))
    assert "<b>3</b><span>pictures" in seen["outlook"] and "<polyline" in seen["outlook"]
    assert "Once there is a folder" in page.happen("room_recipe", "select", page.values())["outlook"]


# -- epochs


def test_a_grid_is_what_was_asked_for(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(studio, "epochs", lambda run: [{"stem": f"cat-{number:06}"} for number in range(1, 4)])
    chosen = ["cat-000003", "cat-000001"]
    request = grid_request(studio, "run", chosen, "a cat", "", "0.5, 1", "7", 12, 4, 100, 64)
    assert request == GridRequest("a cat", "", 7, 12, 4.0, 96, 64, ["", "cat-000001", "cat-000003"], [0.5, 1.0])
    for wrong, words in (((None, chosen), "no run yet"), (("run", []), "tick at least one")):
        with pytest.raises(ConfigError, match=words):
            grid_request(studio, *wrong, "a cat", "", "1", "7", 12, 4, 64, 64)
    with pytest.raises(ConfigError, match='strengths takes a number, not " much"'):
        grid_request(studio, "run", chosen, "a cat", "", "1, much", "7", 12, 4, 64, 64)


def test_many_epochs_are_thinned_evenly():
    assert thinned_evenly([str(number) for number in range(100)], 4) == ["0", "33", "66", "99"]
    assert thinned_evenly(["a"], 12) == ["a"]


def test_markup_escapes_everything():
    nasty = "<img src=x onerror=alert(1)>"
    pieces = (markup.notes([nasty]), markup.hint(nasty), markup.facts({nasty: nasty}), markup.changes([(nasty,) * 3]))
    assert not any("<img" in piece for piece in pieces)


def test_before_the_list_of_runs_is_there_the_newest_is_drawn(
    page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    runs = [{"id": id, "name": name, "epochs": [{}]} for id, name in (("b", "new"), ("a", "old"))]
    monkeypatch.setattr(studio, "runs", lambda: runs)
    monkeypatch.setattr(studio, "epochs", lambda run: [{"stem": f"{run}-000001"}])
    asked: list[GridRequest] = []
    monkeypatch.setattr(studio.venue, "grid", asked.append)
    assert "drawn" in page.happen("draw_grid", "click", page.values())["grids_said"]
    assert asked[0].epochs == ["", "b-000001"]
    said = page.happen("draw_grid", "click", page.values(grids_run="old", grids_epochs=None))["grids_said"]
    assert "tick at least one" in said


def test_a_run_that_has_only_begun_is_not_offered(page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch):
    runs = [{"id": "n", "name": "begun", "epochs": []}, {"id": "o", "name": "old", "epochs": [{"stem": "old-000001"}]}]
    monkeypatch.setattr(studio, "runs", lambda: runs)
    assert list(_runs_by_title(studio)) == ["old"]


def test_a_preset_comes_over_what_suits_the_model(monkeypatch: pytest.MonkeyPatch, studio: Studio):
    page = Page()
    monkeypatch.setitem(sys.modules, "gradio", page)  # type: ignore[arg-type]
    build_tab(studio, {"model.safetensors": {"dataset": {"resolution": 1024, "batch_size": 3}}})
    assert page.named("lazylora_dataset_resolution").value == 1024
    filled = page.happen("preset", "input", page.values(preset="AdamW lazy"))
    assert (filled["dataset_resolution"]["value"], filled["dataset_batch_size"]["value"]) == (
        512,
        2,
    )  # the preset's own
    filled = page.happen("preset", "input", page.values(preset="Prodigy, for people who choose nothing"))
    assert (filled["dataset_resolution"]["value"], filled["dataset_batch_size"]["value"]) == (1024, 3)


def test_an_optimizer_by_another_name_is_shown_as_it_is_called(page: Page):
    filled = page.happen("take_pasted", "click", page.values(pasted='{"optimizer": {"optimizer": "dadaptation"}}'))
    assert filled["optimizer_optimizer"]["value"] == "dadaptation"


def test_a_recipe_whose_adapter_cannot_be_had_says_so(page: Page):
    text = json.dumps({"LoRA_type": "Flux1", "network_dim": 8, "network_alpha": 4})
    assert "cannot be done" in page.happen("take_pasted", "click", page.values(pasted=text))["about_recipe"]


@pytest.mark.parametrize("look", ["glance", "report", "tag", "outlook"])
def test_no_room_shows_a_picture_from_outside(studio: Studio, cats: Path, monkeypatch: pytest.MonkeyPatch, look: str):
    inside = cats.parent / "allowed"
    inside.mkdir()
    (inside / "theirs.toml").write_text(f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = {json.dumps(str(cats))}\n")
    monkeypatch.setattr(studio.venue, "allows", lambda path: path.resolve().is_relative_to(inside.resolve()))
    values = {"folder": str(inside / "theirs.toml")}
    looks = {
        "glance": lambda: glance(values, studio.venue),
        "report": lambda: CaptionRoom(values, studio.venue).examined(),
        "tag": lambda: CaptionRoom(values, studio.venue).with_tag("", 9),
        "outlook": lambda: looked_ahead(
            {"output_name": "a", "output_dir": str(inside), "dataset": values}, "", studio.venue
        ),
    }
    with pytest.raises(ConfigError, match="does not let its pages use this picture"):
        looks[look]()
