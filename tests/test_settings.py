import dataclasses
import json
import math
from dataclasses import dataclass

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.config import DatasetConfig, NetworkConfig, OptimizerConfig, TagEdit, TrainConfig
from trainer_core.errors import ConfigError
from trainer_core.settings import all_settings, from_json, range_words, section, setting, settings_of, to_json

MINIMAL = {"output_name": "cat", "output_dir": "out", "dataset": {"folder": "cats"}}


def train_config(**changes) -> TrainConfig:
    return from_json(TrainConfig, {**MINIMAL, **changes})


def values_for(each) -> st.SearchStrategy:
    """Every value that a setting may take, as JSON would give it."""
    if each.is_section:
        return configs(each.type).map(to_json)
    if each.choices:
        return st.sampled_from(each.choices)
    low = None if each.ge is None else math.ceil(each.ge)
    high = None if each.le is None else math.floor(each.le)
    kinds = {
        bool: st.booleans(),
        int: st.integers(low, 2**63 - 1 if high is None or high > 2**53 else high),
        float: st.floats(each.ge, each.le, allow_nan=False, allow_infinity=False),
        str: st.text(),
        tuple[str, ...]: st.lists(st.text(), max_size=3),
        tuple[TagEdit, ...]: st.lists(st.deferred(lambda: configs(TagEdit).map(to_json)), max_size=2),
    }
    return st.none() | kinds[each.type] if each.optional else kinds[each.type]


def configs(kind: type) -> st.SearchStrategy:
    """Configs of that kind, read from any JSON that it takes."""
    required = {each.name: values_for(each) for each in settings_of(kind) if each.is_required}
    others = {each.name: values_for(each) for each in settings_of(kind) if not each.is_required}
    return st.fixed_dictionaries(required, optional=others).map(lambda values: from_json(kind, values))


@given(configs(TrainConfig))
@hypothesis.settings(max_examples=30)
def test_a_config_survives_the_way_through_json(config):
    assert from_json(TrainConfig, json.loads(json.dumps(to_json(config)))) == config


def test_what_is_left_out_is_at_its_default():
    config = train_config()
    assert config.network == NetworkConfig()
    assert config.dataset == DatasetConfig(folder="cats")
    assert config.optimizer.optimizer == "Prodigy"


def test_texts_of_command_lines_and_web_forms_become_numbers():
    config = train_config(max_train_epochs="7", network={"rank": "8", "alpha": "1e0", "train_unet": "no"})
    assert (config.max_train_epochs, config.network.rank, config.network.alpha) == (7, 8, 1.0)
    assert config.network.train_unet is False


def test_a_64_bit_seed_keeps_every_digit():
    assert train_config(seed=2**63 - 1).seed == 2**63 - 1


def test_a_lone_text_is_a_list_of_one():
    assert train_config(sample={"prompts": "a cat"}).sample.prompts == ("a cat",)


def test_a_list_of_groups_is_read_group_by_group():
    edits = [{"operation": "replace", "tags": "cat", "replacement": "dog"}]
    config = train_config(dataset={"folder": "cats", "tag_edits": edits})
    assert config.dataset.tag_edits == (TagEdit("replace", "cat", "dog"),)


def test_none_is_a_value_only_where_the_setting_is_optional():
    assert from_json(OptimizerConfig, {"unet_lr": None}).unet_lr is None
    with pytest.raises(ConfigError, match='"rank" takes a whole number, not None'):
        from_json(NetworkConfig, {"rank": None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"rnak": 8}}, 'unknown setting "network.rnak"; did you mean "rank"'),
        ({"quux": 1}, 'unknown setting "quux"; remove it'),
        ({"dataset": {}}, 'the setting "dataset.folder" is missing: Folder of pictures'),
        ({"network": {"rank": 0}}, '"network.rank" is 0; give 1 to 1024'),
        ({"network": {"rank": 2.5}}, '"network.rank" takes a whole number, not 2.5'),
        ({"network": {"rank": True}}, '"network.rank" takes a whole number, not True'),
        ({"network": {"alpha": "nan"}}, "\"network.alpha\" takes a number, not 'nan'"),
        ({"network": {"alpha": math.inf}}, '"network.alpha" takes a number, not inf'),
        ({"network": {"alpha": "1e999"}}, '"network.alpha" takes a number'),
        ({"network": {"train_unet": "maybe"}}, "\"network.train_unet\" takes true or false, not 'maybe'"),
        ({"network": 8}, '"network" takes a group of settings, not 8'),
        ({"output_name": ["cat"]}, '"output_name" takes text'),
        ({"save_precision": "fp61"}, '"save_precision" cannot be "fp61"; did you mean "fp16"'),
        ({"loss": {"prediction_type": "?"}}, "choose one of auto, epsilon, v_prediction"),
        ({"sample": {"prompts": 3}}, '"sample.prompts" takes a list, not 3'),
    ],
)
def test_what_cannot_be_is_refused_by_its_path_with_the_cure(changes, message):
    with pytest.raises(ConfigError) as refused:
        train_config(**changes)
    assert message in str(refused.value)


def test_every_setting_has_one_sentence_of_help_and_a_default_that_it_accepts():
    for path, each in all_settings(TrainConfig):
        assert each.help.endswith("."), path
        if not each.is_required:
            bounds = [bound for bound in (each.ge, each.le) if bound is not None and each.default is not None]
            assert all((each.default >= each.ge) if bound == each.ge else (each.default <= each.le) for bound in bounds)
            assert not each.choices or each.default in each.choices, path


def test_a_run_of_defaults_is_the_run_of_the_same_settings_read_again():
    config = train_config()
    assert json.dumps(to_json(config)) == json.dumps(to_json(from_json(TrainConfig, to_json(config))))


def test_the_configs_cannot_be_changed_behind_a_run():
    with pytest.raises(dataclasses.FrozenInstanceError):
        train_config().seed = 1


def test_ranges_are_told_in_words():
    @dataclass(frozen=True)
    class Inner:
        """Some numbers."""

        both: int = setting(2, help="Both.", ge=1, le=3)
        low: float = setting(0.5, help="Low.", ge=0.5)
        high: float = setting(0.0, help="High.", le=1)
        free: int = setting(0, help="Free.")

    @dataclass(frozen=True)
    class Outer:
        """Holds numbers."""

        inner: Inner = section(Inner)

    words = {path: range_words(each) for path, each in all_settings(Outer)}
    assert words == {
        "inner.both": "1 to 3",
        "inner.low": "at least 0.5",
        "inner.high": "at most 1",
        "inner.free": "",
    }
