"""The whole tab: what is in it, and that it needs no more than the three Gradios share."""

from __future__ import annotations

import sys

import pytest

from tests.tab.stand_in import Page
from trainer_core.config import TrainConfig
from trainer_core.errors import HostError
from trainer_core.recipes.presets import PRESETS
from trainer_core.recipes.report import flattened
from trainer_core.settings import all_settings, from_json, to_json
from trainer_core.tab import build_tab
from trainer_core.tab.form import SECTIONS, WITHOUT_FIELD, Form, own_settings


def test_every_setting_has_one_field(page: Page):
    wanted = {
        f"lazylora_{path.replace('.', '_')}" for path, _ in all_settings(TrainConfig) if path not in WITHOUT_FIELD
    }
    ids = [each.elem_id for each in page.components]
    assert wanted <= set(ids)
    assert {path for section in SECTIONS for path, _ in own_settings(section)} == {
        path for path, _ in all_settings(TrainConfig) if path not in WITHOUT_FIELD
    }


def test_every_part_of_the_page_has_an_id_of_ours_and_no_two_have_the_same(page: Page):
    ids = [each.elem_id for each in page.components if each.kind not in ("Blocks", "State")]
    assert all(each and each.startswith("lazylora_") for each in ids)
    assert len(set(ids)) == len(ids)


def test_an_untouched_form_means_the_defaults(page: Page):
    form = filled_form(page)
    values = form.read({each: each.value for each in form.inputs()})
    values["dataset"]["folder"], values["output_name"], values["output_dir"] = "here", "cat", "runs"
    plain = from_json(TrainConfig, {"output_name": "cat", "output_dir": "runs", "dataset": {"folder": "here"}})
    assert from_json(TrainConfig, values) == plain


@pytest.mark.parametrize("name", PRESETS.names())
def test_a_preset_fills_the_form_and_can_be_read_back(page: Page, name: str):
    form = filled_form(page)
    given = {each: each.value for each in form.inputs()}
    for component, shown in form.showing(PRESETS.get(name).values).items():
        given[component] = shown["value"] if isinstance(shown, dict) and "__type__" in shown else shown
    read = flattened(
        to_json(from_json(TrainConfig, {"output_name": "a", "output_dir": "b", **read_with_folder(form, given)}))
    )
    for path, value in flattened(PRESETS.get(name).values).items():
        assert read[path] == value, path


def test_what_has_no_field_survives_an_import(page: Page):
    form = filled_form(page)
    edit = {"operation": "remove", "tags": "watermark"}
    shown = form.showing({"dataset": {"tag_edits": [edit]}})
    given = {each: each.value for each in form.inputs()}
    given[form.rest] = shown[form.rest]
    assert form.read(given)["dataset"]["tag_edits"] == [edit]


def test_numbers_keep_their_digits(page: Page):
    form = filled_form(page)
    values = {"seed": 2**62 + 1, "optimizer": {"learning_rate": 1.6e-05}, "network": {"conv_alpha": 0.1}}
    shown = form.showing(values)
    assert shown[form.field("seed")]["value"] == str(2**62 + 1)
    assert float(shown[form.field("optimizer.learning_rate")]["value"]) == 1.6e-05
    assert shown[form.field("network.conv_alpha")]["value"] == "0.1"


def test_without_gradio_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, studio):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(HostError, match=r'pip install "lazylora\[webui\]"'):
        build_tab(studio)


def filled_form(page: Page) -> Form:
    """A form of its own with every field."""
    form = Form()
    for section in SECTIONS:
        for path, _ in own_settings(section):
            form.add(path)
    return form


def read_with_folder(form: Form, given: dict) -> dict:
    values = form.read(given)
    values["dataset"]["folder"] = "here"
    return {name: value for name, value in values.items() if name not in ("output_name", "output_dir")}
