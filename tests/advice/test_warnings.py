"""Every warning comes when it should, not just before, and says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from trainer_core.advice import WARNINGS, Outlook, advise
from trainer_core.advice.inert import TABLE
from trainer_core.advice.page import warnings_page
from trainer_core.config import NetworkConfig, TrainConfig
from trainer_core.docs_table import WARNINGS_PAGE
from trainer_core.errors import ConfigError
from trainer_core.networks import ALGORITHMS
from trainer_core.networks.base import Layer
from trainer_core.optim.run_schedule import run_factors
from trainer_core.recipes.presets import PRESETS
from trainer_core.settings import all_settings, from_json


def outlook(steps: int = 800, warmup: int = 0, pictures: int = 40, **changes) -> Outlook:
    values = {"output_name": "a", "output_dir": "b", "dataset": {"folder": "c"}}
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    config = from_json(TrainConfig, values)
    factors = run_factors(config.optimizer, steps, warmup, base_lr=1.0)
    return Outlook(config, steps, warmup, pictures, config.max_train_epochs, factors)


def prodigy(**options) -> dict:
    return {"optimizer": "Prodigy", "learning_rate": 1.0, **options}


def adamw(**options) -> dict:
    return {"optimizer": "AdamW", "learning_rate": 1e-4, **options}


def network(**options) -> dict:
    return {"network": options}


# name → (a run that it is said of, the sound one next to it, a part of the sentence)
CASES = {
    "setting-without-effect": (
        outlook(**network(algo="lora", factor=8)),
        outlook(**network(algo="lokr", factor=8)),
        "factor does nothing for algo lora",
    ),
    "alpha-below-rank": (
        outlook(**network(rank=128, alpha=1)),
        outlook(**network(rank=32, alpha=16)),
        "alpha 1 at rank 128 scales the adapter by 0.0078",
    ),
    "alpha-above-rank": (
        outlook(**network(rank=8, alpha=64)),
        outlook(**network(rank=8, alpha=16)),
        "8 times as large",
    ),
    "large-rank": (
        outlook(**network(rank=128, alpha=128)),
        outlook(**network(algo="lokr", rank=1024, alpha=1024)),
        "local noise",
    ),
    "alpha-without-a-say": (
        outlook(**network(algo="lokr", rank=16, alpha=8)),
        outlook(**network(algo="lokr", rank=4, alpha=2)),
        "at rank 16 on layers 320 and 640 wide",
    ),
    "rate-of-an-adaptive-optimizer": (
        outlook(optimizer=prodigy(learning_rate=1e-4)),
        outlook(optimizer=prodigy(learning_rate=0.5)),
        "leave it at 1",
    ),
    "rate-too-high": (outlook(optimizer=adamw(learning_rate=1.0)), outlook(optimizer=adamw()), "far above"),
    "768-at-rate-1": (
        outlook(dataset={"resolution": 768}),
        outlook(dataset={"resolution": 768}, optimizer=prodigy(unet_lr=0.5, text_encoder_lr=0.25)),
        "melted",
    ),
    "small-pictures-for-sdxl": (
        replace(outlook(dataset={"resolution": 512}), model_resolution=1024),
        replace(outlook(dataset={"resolution": 512}), model_resolution=512),
        "set resolution to 1024",
    ),
    "velocity-model-at-full-rate": (
        outlook(loss={"prediction_type": "v_prediction"}),
        outlook(loss={"prediction_type": "v_prediction"}, optimizer=prodigy(learning_rate=0.5)),
        "velocities",
    ),
    "noise-offset-with-d-adaptation": (
        outlook(loss={"noise_offset": 0.75}, optimizer=prodigy(optimizer="DAdaptAdam")),
        outlook(loss={"noise_offset": 0.2}, optimizer=prodigy(optimizer="DAdaptAdam")),
        "keep it to 0.2",
    ),
    "weight-decay-out-of-range": (
        outlook(optimizer=prodigy(optimizer_args="weight_decay=1.5")),
        outlook(optimizer=prodigy(optimizer_args="weight_decay=1")),
        "weight_decay 1.5",
    ),
    "decay-without-decouple": (
        outlook(optimizer=prodigy(optimizer="DAdaptation", optimizer_args="weight_decay=0.4")),
        outlook(optimizer=prodigy(optimizer="DAdaptation", optimizer_args="weight_decay=0.4 decouple=True")),
        "decouple=True",
    ),
    "d-coef-for-few-pictures": (
        outlook(pictures=12, optimizer=prodigy(optimizer_args="d_coef=2")),
        outlook(pictures=30, optimizer=prodigy(optimizer_args="d_coef=2")),
        "12 pictures",
    ),
    "warm-up-without-safeguard": (
        outlook(warmup=80, optimizer=prodigy(lr_warmup_steps="10%")),
        outlook(warmup=80, optimizer=prodigy(lr_warmup_steps="10%", optimizer_args="safeguard_warmup=True")),
        "safeguard_warmup=True",
    ),
    "text-encoder-above-unet": (
        outlook(optimizer=adamw(unet_lr=3e-5, text_encoder_lr=7e-5)),
        outlook(optimizer=adamw(unet_lr=16e-5, text_encoder_lr=3e-5)),
        "7e-05",
    ),
    "warm-up-as-long-as-the-run": (
        outlook(warmup=800, optimizer=adamw(lr_warmup_steps="800")),
        outlook(warmup=80, optimizer=adamw(lr_warmup_steps="80")),
        "shorten it",
    ),
    "few-steps": (outlook(steps=200), outlook(steps=200, optimizer=adamw()), "200 steps are few"),
    "many-steps": (
        outlook(steps=3000, max_train_epochs=5, dataset={"batch_size": 6}),
        outlook(steps=3000, max_train_epochs=50, dataset={"batch_size": 6}),
        "save_every_n_epochs",
    ),
    "schedule": (
        outlook(optimizer=prodigy(lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=200")),
        outlook(optimizer=prodigy(lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=total")),
        "write T_max=total",
    ),
    "one-rate-for-all-groups": (
        outlook(optimizer=prodigy(lr_groups="legacy_single", unet_lr=1.0, text_encoder_lr=0.5)),
        outlook(optimizer=prodigy(unet_lr=1.0, text_encoder_lr=0.5)),
        "text encoder's rate of 0.5, not at 1",
    ),
    "many-restarts": (
        outlook(optimizer=prodigy(lr_scheduler="cosine_with_restarts", lr_scheduler_num_cycles=16)),
        outlook(optimizer=prodigy(lr_scheduler="cosine_with_restarts", lr_scheduler_num_cycles=9)),
        "16 restarts",
    ),
}


@pytest.mark.parametrize("name", WARNINGS.names())
def test_each_warning_comes_when_it_should_and_not_next_to_it(name):
    doubtful, sound, words = CASES[name]
    entry = WARNINGS.get(name)
    [sentence] = entry.sentences(doubtful)
    assert words in sentence and "\n" not in sentence
    assert list(entry.sentences(sound)) == []


@pytest.mark.parametrize("name", WARNINGS.names())
def test_what_is_sound_next_to_one_warning_has_no_other(name):
    assert list(advise(CASES[name][1])) == []


def test_each_warning_names_settings_that_there_are_and_its_source():
    known = {path for path, _ in all_settings(TrainConfig)}
    for _, entry in WARNINGS:
        assert set(entry.looks_at) <= known and entry.source and entry.when.endswith(".")


@pytest.mark.parametrize("name", PRESETS.names())
def test_the_guides_own_settings_are_doubted_only_where_another_guide_or_the_code_does(name):
    doubted = {
        "adamw-lazy": {"large-rank", "setting-without-effect"},  # guide 2; keep_tokens without shuffle_caption
        "prodigy-ia3": {"setting-without-effect"},  # (IA)³ has no dropout
    }
    looked_at = outlook(steps=900, pictures=36, **PRESETS.get(name).values)
    said = {each for each, entry in WARNINGS if list(entry.sentences(looked_at))}
    assert said == doubted.get(name, set())


@pytest.mark.parametrize("options", [{"rank": 80, "factor": 8}, {"rank": 16, "full_matrix": True}])
def test_alpha_scales_nothing_where_every_matrix_is_whole(options):
    whole = outlook(**network(algo="lokr", alpha=1, **options))
    assert [sentence for sentence in advise(whole) if "alpha" in sentence] == list(
        WARNINGS.get("alpha-without-a-say").sentences(whole)
    )
    unlike = outlook(**network(algo="lora", rank=16, alpha=1, full_matrix=True))
    assert list(WARNINGS.get("alpha-below-rank").sentences(unlike)), "full_matrix is lokr's"


@pytest.mark.parametrize(("width", "is_whole"), [(320, True), (640, True), (1280, False)])
def test_the_widths_that_are_named_are_those_where_lokr_takes_no_alpha(width, is_whole):
    algorithm = ALGORITHMS.get("lokr")(NetworkConfig(algo="lokr", rank=16, alpha=8))
    constants = algorithm.constants(Layer(nn.Linear(width, width, device="meta"), 16, 8.0))
    assert (float(constants["alpha"]) == 16) is is_whole


def changed(setting: str) -> object:
    """Another value than the default, that the setting may have."""
    each = dict(all_settings(TrainConfig))[setting]
    if each.choices:
        return next(choice for choice in each.choices if choice != each.default)
    if each.type is bool:
        return not each.default
    return {int: 8, float: 0.5, str: "1,2"}[each.type]


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.setting)
def test_a_setting_without_effect_is_named_when_it_was_changed(entry):
    section, _, name = entry.setting.rpartition(".")
    of_captions = ("shuffle_caption", "caption_tag_dropout_rate", "token_warmup_step")
    of_low_rank = ("rank", "alpha", "rs_lora", "dropout", "rank_dropout", "scale_weight_norms")
    base = {
        "network": {"algo": "ia3" if name in of_low_rank else "lora"},
        "optimizer": adamw(),
        "loss": {"prediction_type": "v_prediction" if name == "v_pred_like_loss" else "epsilon"},
        "dataset": {"captions": "none" if name in of_captions else "files"},
    }
    if name in ("unet_lr", "text_encoder_lr"):
        base["network"] |= {"train_unet": name != "unet_lr", "train_text_encoder": name == "unet_lr"}
    base["max_train_steps"] = 800 if name == "max_train_epochs" else 0
    base["dataset"] |= {"enable_bucket": name != "bucket_no_upscale"}
    value = changed(entry.setting)
    if section:
        base[section] = {**base[section], name: value}
    else:
        base[name] = value
    said = list(WARNINGS.get("setting-without-effect").sentences(outlook(**base)))
    assert [sentence for sentence in said if sentence.startswith(f"{name} does nothing")]


@pytest.mark.parametrize(
    ("algo", "setting"),
    [
        (algo, row.setting.removeprefix("network."))
        for algo in ALGORITHMS.names()
        for row in TABLE[: [row.setting for row in TABLE].index("network.wd_on_output")]
    ],
)
def test_what_is_said_to_do_nothing_for_an_algorithm_does_nothing(algo, setting):
    values = {"rank": 4, "conv_rank": 4, "alpha": 1, "conv_alpha": 1, "dropout": 0.5, "rank_dropout": 0.5,
              "factor": 2, "constraint": 0.01, "block_size": 2}  # fmt: skip
    plain = NetworkConfig(algo=algo, rank=2, alpha=2, block_size=1, train_text_encoder=False)
    other = replace(plain, **{setting: values.get(setting, not getattr(plain, setting))})
    row = next(row for row in TABLE if row.setting == f"network.{setting}")
    matters = row.matters(outlook(network={"algo": algo}).config)
    if not matters:
        assert _traces(plain) == _traces(other)
    else:
        assert _traces(plain) != _traces(other)


@pytest.mark.parametrize("algo", ALGORITHMS.names())
def test_scale_weight_norms_is_said_to_do_nothing_where_nothing_is_shortened(algo):
    shortens = bool(ALGORITHMS.get(algo)(NetworkConfig(algo=algo, train_text_encoder=False)).multiplied)
    said = WARNINGS.get("setting-without-effect").sentences(outlook(**network(algo=algo, scale_weight_norms=1)))
    assert any(sentence.startswith("scale_weight_norms does nothing") for sentence in said) is not shortens


def _traces(config: NetworkConfig) -> list[list[float]]:
    """What the algorithm makes of small layers: numbers of parameters, and outputs in training."""
    try:
        algorithm = ALGORITHMS.get(config.algo)(config)
    except ConfigError:
        return []  # what is refused has an effect
    linear, convolution, norm = nn.Linear(96, 128), nn.Conv2d(96, 128, 3, padding=1), nn.LayerNorm(96)
    layers = {
        linear: algorithm.reaches_matrices,
        convolution: algorithm.reaches_convolutions and algorithm.reaches_matrices,
        norm: algorithm.reaches_norms,
    }
    traces = []
    for module in (module for module, is_reached in layers.items() if is_reached):
        dice = torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            parameter.data = torch.randn(parameter.shape, generator=dice)
        rank, alpha = algorithm.size(module)
        layer = Layer(module, rank, alpha, "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2")
        start = sorted(algorithm.init(layer, dice).items())
        weights = {name: each + 0.1 * torch.randn(each.shape, generator=dice) for name, each in start}
        traces.append([float(each.numel()) for each in weights.values()])
        x = torch.randn((2, 96, 4, 4) if module is convolution else (2, 5, 96), generator=dice)
        for seed in range(4):
            with torch.no_grad():
                inner = algorithm.input(layer, weights, x, seed) if algorithm.changes_input(layer) else x
                y = module(inner)
                y = algorithm.forward(layer, weights, inner, y, seed) if algorithm.changes_output(layer) else y
            traces.append(y.flatten().tolist())
    return traces


def test_the_warnings_page_is_up_to_date():
    assert WARNINGS_PAGE.read_text(encoding="utf-8") == warnings_page(), "run `python -m trainer_core.docs_table`"
