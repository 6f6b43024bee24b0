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


@pytest.mark.parametrize(("steps", "epochs", "last"), [(7, 3, 1), (6, 2, 3), (2, 1, 2)])
def test_a_run_ends_after_max_train_steps_in_the_middle_of_an_epoch_if_need_be(make_config, steps, epochs, last):
    plan = make_plan(make_config(max_train_epochs=9, max_train_steps=steps, gradient_accumulation_steps=2))
    assert (plan.steps_per_epoch, plan.total_steps, plan.epochs) == (3, steps, epochs)
    assert [len(plan.windows(epoch)) for epoch in range(1, epochs + 1)] == [3] * (epochs - 1) + [last]
    assert plan.saves(epochs) and plan.last_step(epochs) == steps
    whole = make_plan(make_config(max_train_epochs=9, gradient_accumulation_steps=2))
    assert plan.windows(epochs) == whole.windows(epochs)[:last]


def test_the_schedule_ends_with_max_train_steps(make_config):
    plan = make_plan(make_config(max_train_steps=7, optimizer={"lr_scheduler": "linear", "lr_warmup_steps": "2"}))
    assert plan.lr_factors[2] == 1 and plan.lr_factors[-1] == pytest.approx(1 / 5)


def test_epochs_make_no_other_run_beside_max_train_steps(make_config):
    few, many = (make_config(max_train_steps=7, max_train_epochs=epochs) for epochs in (2, 50))
    assert determining_values(few) == determining_values(many) != determining_values(make_config(max_train_steps=8))


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
