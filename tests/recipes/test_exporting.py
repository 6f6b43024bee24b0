"""Importing an export changes nothing, whatever the settings."""

from __future__ import annotations

import json
import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer_core.config import TrainConfig
from trainer_core.networks import ALGORITHMS
from trainer_core.optim import OPTIMIZERS, SCHEDULES
from trainer_core.recipes import import_text
from trainer_core.recipes.exporting import EXPORTS
from trainer_core.recipes.presets import PRESETS
from trainer_core.recipes.report import Assignments
from trainer_core.settings import all_settings, from_json, merged, to_json

REQUIRED = {"output_name": "cat", "output_dir": "out", "dataset": {"folder": "pictures"}}
NAMED = {
    "network.algo": st.sampled_from(ALGORITHMS.names()),
    "optimizer.optimizer": st.sampled_from(OPTIMIZERS.names()),
    "optimizer.lr_scheduler": st.sampled_from(SCHEDULES.names()),
    "optimizer.optimizer_args": st.sampled_from(
        ["", "weight_decay=0.01", "d_coef=2 betas=(0.9, 0.99)", "decouple=True"]
    ),
    "optimizer.lr_warmup_steps": st.sampled_from(["0", "100", "10%", "0.1", "7.5%", "100 "]),
    "optimizer.lr_scheduler_args": st.sampled_from(["", "T_max=200", "T_max=total eta_min=0.1"]),
    "dataset.tag_edits": st.sampled_from([[], [{"operation": "remove", "tags": "a, b", "replacement": ""}]]),
    "sample.prompts": st.lists(st.text(max_size=20), max_size=2),
}


def values_of(path, each):
    """Valid values of a setting."""
    if path in NAMED:
        return NAMED[path]
    if each.choices:
        made = st.sampled_from(each.choices)
    elif each.type is bool:
        made = st.booleans()
    elif each.type is int:
        made = st.integers(int(each.ge or 0), int(each.le if each.le is not None else 10_000))
    elif each.type is float:
        least, most = each.ge if each.ge is not None else -9.0, each.le if each.le is not None else 1e4
        made = st.floats(least, most, allow_subnormal=False)
    elif typing.get_origin(each.type) is tuple:
        made = st.just([])
    else:
        made = st.sampled_from(["", "x", "1,2", "a b", 'say "hi"', "0.5", "None", "猫, 帽子"])
    return st.one_of(st.none(), made) if each.optional else made


@st.composite
def some_settings(draw):
    every = dict(all_settings(TrainConfig))
    chosen = draw(st.lists(st.sampled_from(sorted(every)), max_size=12, unique=True))
    return Assignments({path: draw(values_of(path, every[path])) for path in chosen}).nested()


@pytest.mark.parametrize("kind", EXPORTS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some_settings())
def test_importing_an_export_changes_nothing(kind, values):
    back = import_text(EXPORTS[kind](values)).values
    assert from_json(TrainConfig, merged(REQUIRED, back)) == from_json(TrainConfig, merged(REQUIRED, values))


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_whole_run_s_settings_come_back(kind):
    values = to_json(from_json(TrainConfig, REQUIRED))
    assert from_json(TrainConfig, import_text(EXPORTS[kind](values)).values) == from_json(TrainConfig, REQUIRED)


def test_the_other_programs_read_their_own_words():
    values = {
        "network": {"algo": "locon", "rank": 32, "alpha": 16.0, "conv_rank": 8, "conv_alpha": 4.0},
        "optimizer": {"optimizer": "Prodigy", "optimizer_args": "d_coef=2", "lr_warmup_steps": "10%"},
        "dataset": {"resolution": 768, "batch_size": 2, "trigger_word": "mychar"},
        "loss": {"min_snr_gamma": 5.0},
    }
    gui = json.loads(EXPORTS["kohya-gui"](values))
    assert (gui["LoRA_type"], gui["network_dim"], gui["conv_dim"]) == ("Kohya LoCon", 32, 8)
    assert (gui["optimizer"], gui["optimizer_args"], gui["lr_warmup"]) == ("Prodigy", "d_coef=2", 10.0)
    assert (gui["max_resolution"], gui["train_batch_size"], gui["min_snr_gamma"]) == ("768,768", 2, 5.0)
    toml = EXPORTS["sd-scripts"](values)
    assert 'network_module = "networks.lora"' in toml and 'network_args = ["conv_dim=8", "conv_alpha=4.0"]' in toml
    assert "lr_warmup_steps = 0.1" in toml and 'optimizer_args = ["d_coef=2"]' in toml


@pytest.mark.parametrize("kind", ["sd-scripts", "kohya-gui"])
def test_steps_that_overrule_epochs_here_are_not_overruled_there(kind):
    text = EXPORTS[kind]({"max_train_epochs": 3, "max_train_steps": 500})
    assert text.count("max_train_steps") == 1
    assert text.count("max_train_epochs") == 1, "in our own section only, as in sd-scripts epochs beat steps"
    assert import_text(text).values == {"max_train_epochs": 3, "max_train_steps": 500}


@pytest.mark.parametrize("kind", ["sd-scripts", "kohya-gui"])
@pytest.mark.parametrize("arguments", ["", "beta1=0.9"])
def test_adafactor_keeps_its_rate_from_outside(kind, arguments):
    ours = {"optimizer": {"optimizer": "Adafactor", **({"optimizer_args": arguments} if arguments else {})}}
    text = EXPORTS[kind](ours)
    assert "relative_step=False" in text and arguments in text
    back = import_text(text)
    assert back.values["optimizer"].get("optimizer_args", "") == arguments
    assert not [each for each in back.entries if each.verdict == "unsupported"]


def test_an_export_says_nothing_that_sd_scripts_refuses():
    values = to_json(from_json(TrainConfig, merged(REQUIRED, PRESETS.get("prodigy-lokr").values)))
    toml = EXPORTS["sd-scripts"](values)
    ours = toml.index("[lazylora]")
    assert "total" not in toml[:ours] and '"auto"' not in toml[:ours] and "max_token_length" not in toml[:ours]
    assert "lr_scheduler_type" not in toml[:ours]  # half a wave over the whole run has a name there
    assert 'lr_scheduler = "cosine"' in toml and 'resolution = "512,512"' in toml and "decompose_both" not in toml
    assert 'network_module = "lycoris.kohya"' in toml and '"algo=lokr"' in toml


@pytest.mark.parametrize("kind", ["sd-scripts", "kohya-gui"])
@pytest.mark.parametrize(("prefix", "exported"), [("", "sks girl,"), ("best quality,", "sks girl, best quality,")])
def test_the_trigger_word_is_exported_as_a_prefix_with_its_comma(kind, prefix, exported):
    ours = {"dataset": {"trigger_word": "sks girl", **({"caption_prefix": prefix} if prefix else {})}}
    text = EXPORTS[kind](ours)
    assert f'"{exported}"' in text
    assert import_text(text).values["dataset"] == {"caption_prefix": "", **ours["dataset"]}


@pytest.mark.parametrize("kind", ["sd-scripts", "kohya-gui"])
def test_the_settings_of_captions_have_the_same_words_there(kind):
    ours = {
        "caption_suffix": "S",
        "enable_wildcard": True,
        "token_warmup_min": 3,
        "token_warmup_step": 0.5,
        "weighted_captions": True,
    }
    back = import_text(EXPORTS[kind]({"dataset": ours}))
    assert back.values == {"dataset": ours} and all(each.verdict != "unsupported" for each in back.entries)
