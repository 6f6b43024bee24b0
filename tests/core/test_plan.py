"""What is said before training: steps, curve, warnings, and which parts are trained."""

from __future__ import annotations

import pytest

from trainer_core.errors import ConfigError
from trainer_core.plan import determining_values, make_plan, trained_components


def test_steps_follow_from_buckets_batches_and_accumulation(make_config):
    plan = make_plan(make_config(max_train_epochs=3, gradient_accumulation_steps=2))
    assert (plan.batches_per_epoch, plan.steps_per_epoch, plan.total_steps) == (5, 3, 9)
    for epoch in (1, 2):
        seen = [
            (index, turn) for window in plan.windows(epoch) for b in window for index, turn in zip(b.indices, b.turns)
        ]
        assert sorted(seen) == [(index, turn) for index in range(5) for turn in range(2)]
    assert plan.windows(1) != plan.windows(2)


def test_the_last_epoch_is_always_saved(make_config):
    plan = make_plan(make_config(max_train_epochs=5, save_every_n_epochs=2))
    assert [epoch for epoch in range(1, 6) if plan.saves(epoch)] == [2, 4, 5]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {"conv_rank": 4}}, "conv_rank"),
        ({"network": {"rank": 128, "alpha": 1}}, "alpha 1 at rank 128"),
        ({"optimizer": {"optimizer": "Prodigy", "learning_rate": 1e-4}}, "leave it at 1"),
        ({"optimizer": {"learning_rate": 1.0}}, "far above"),
        ({"optimizer": {"lr_warmup_steps": "100%"}}, "as long as the run"),
        ({"network": {"train_unet": False}, "optimizer": {"unet_lr": 1e-4}}, "unet_lr does nothing"),
        ({"network": {"train_text_encoder": False}, "optimizer": {"text_encoder_lr": 1e-4}}, "text_encoder_lr does"),
        ({"dataset": {"keep_tokens": 1}}, "keep_tokens does nothing"),
    ],
)
def test_doubtful_settings_are_named(make_config, changes, words):
    assert [warning for warning in make_plan(make_config(**changes)).warnings if words in warning]


def test_sound_settings_pass_without_a_word(make_config):
    assert make_plan(make_config(max_train_epochs=20)).warnings == ()


def test_only_what_has_a_learning_rate_is_trained(make_config):
    available = ["unet", "te1", "te2"]
    assert trained_components(make_config(), available) == available
    assert trained_components(make_config(optimizer={"text_encoder_lr": 0}), available) == ["unet"]
    assert trained_components(make_config(network={"train_unet": False}), available) == ["te1", "te2"]
    with pytest.raises(ConfigError, match="nothing is trained"):
        trained_components(make_config(optimizer={"learning_rate": 0}), available)


def test_names_and_previews_do_not_make_another_run(make_config):
    first = make_config(output_name="a", sample={"prompts": ["x"]})
    second = make_config(output_name="b", training_comment="hello")
    assert determining_values(first) == determining_values(second)
    assert determining_values(first) != determining_values(make_config(seed=3))
