"""Node inputs say what the settings say, and give the same settings back."""

from __future__ import annotations

import types

import pytest

from tests.nodes.pack import load

inputs, config = load("nodes.inputs"), load("trainer_core.config")
settings, errors = load("trainer_core.settings"), load("trainer_core.errors")
CONFIGS = [config.DatasetConfig, config.NetworkConfig, config.OptimizerConfig, config.LossConfig, config.SampleConfig]


def leaves(of: type) -> list:
    return [each for each in settings.settings_of(of) if not each.is_section and each.name != "tag_edits"]


ALL = [
    pytest.param(each, id=f"{of.__name__}.{each.name}") for of in [*CONFIGS, config.TrainConfig] for each in leaves(of)
]


@pytest.mark.parametrize("each", [each for each in ALL if not each.values[0].is_required])
def test_an_untouched_input_is_the_settings_default(each):
    _, options = inputs.widget(each)
    of = next(of for of in [*CONFIGS, config.TrainConfig] if each in settings.settings_of(of))
    required = {known.name: "x" for known in settings.settings_of(of) if known.is_required and not known.is_section}
    others = {"dataset": config.DatasetConfig("x")} if of is config.TrainConfig else {}
    made = inputs.settings_from(of, {**required, each.name: options["default"]}, **others)
    assert getattr(made, each.name) == each.default


@pytest.mark.parametrize("each", ALL)
def test_an_input_takes_no_more_than_the_setting(each):
    kind, options = inputs.widget(each)
    if kind not in ("Int", "Float"):
        assert kind in ("String", "Boolean", "Combo")
        return
    assert options["min"] <= options["default"] <= options["max"]
    assert options["max"] <= 2**53, "the frontend would round it"
    assert each.le is None or options["max"] <= each.le
    assert each.optional or each.ge is None or options["min"] >= each.ge


@pytest.mark.parametrize("each", [each for each in ALL if each.values[0].optional])
def test_a_number_below_the_range_leaves_a_setting_out_and_the_tooltip_says_which(each):
    _, options = inputs.widget(each)
    assert each.ge is None or options["min"] < each.ge
    assert f"{options['min']:g} leaves it out" in inputs.tooltip(each)


@pytest.mark.parametrize("each", ALL)
def test_every_tooltip_says_something(each):
    assert inputs.tooltip(each).startswith(each.help)


def test_rates_are_not_rounded_to_the_step():
    rate = next(each for each in leaves(config.OptimizerConfig) if each.name == "learning_rate")
    _, options = inputs.widget(rate)
    assert options["round"] is False and options["step"] <= 1e-5


@pytest.mark.parametrize("each", ALL)
def test_no_number_with_a_point_is_rounded_to_the_step(each):
    kind, options = inputs.widget(each)
    assert kind != "Float" or options["round"] is False, "the frontend would make 0.9999 of an ema_decay 1.0"


def test_the_seed_is_not_drawn_anew_for_every_graph():
    seed = next(each for each in leaves(config.TrainConfig) if each.name == "seed")
    assert inputs.widget(seed)[1]["control_after_generate"] is False


def test_lines_are_a_list_and_blank_ones_are_none():
    made = inputs.settings_from(config.SampleConfig, {"sample_prompts": "a cat\n\n  a car  \n"}, prefix="sample_")
    assert made.prompts == ("a cat", "a car")


def test_choices_come_from_a_registry():
    algo = next(each for each in leaves(config.NetworkConfig) if each.name == "algo")
    kind, options = inputs.widget(algo, ("lora", "locon"))
    assert kind == "Combo" and options == {"options": ["lora", "locon"], "default": "lora"}


def test_a_value_out_of_range_is_named():
    with pytest.raises(errors.ConfigError, match='"rank" is 0; give 1 to 1024'):
        inputs.settings_from(config.NetworkConfig, {"rank": 0})


def test_a_missing_one_without_a_default_is_named():
    with pytest.raises(errors.ConfigError, match="operation is missing"):
        inputs.settings_from(config.TagEdit, {"tags": "a"})


def test_new_inputs_stand_behind_those_that_graphs_have_saved():
    made = [types.SimpleNamespace(id=name) for name in ("new", "b", "newer", "a")]
    assert [each.id for each in inputs.in_saved_order(["a", "b"], *made)] == ["a", "b", "new", "newer"]
