"""The curve that a run's settings describe: kohya's schedules, torch's classes, and warnings about them."""

import math

import pytest
import torch

from trainer_core.config import OptimizerConfig, learning_rates
from trainer_core.errors import ConfigError
from trainer_core.optim.run_schedule import run_factors, schedule_warnings


def factors(total, warmup=0, base_lr=1.0, **settings):
    return run_factors(OptimizerConfig(**settings), total, warmup, base_lr)


def warned(total, warmup=0, **settings):
    optimizer = OptimizerConfig(**settings)
    return list(schedule_warnings(optimizer, total, warmup, run_factors(optimizer, total, warmup, 1.0)))


def test_a_torch_class_counts_optimizer_steps():
    actual = factors(10, lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=4 eta_min=0.1")
    assert actual == pytest.approx([0.1 + 0.9 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(10)])


def test_total_is_the_steps_that_the_class_gets_after_the_warm_up():
    actual = factors(10, 2, lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=total")
    assert actual == pytest.approx([0, 0.5, *((1 + math.cos(math.pi * step / 8)) / 2 for step in range(8))])
    assert not warned(10, 2, lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=total")


def test_absolute_rates_are_relative_to_the_base_rate():
    actual = factors(6, base_lr=1e-4, lr_scheduler_type="OneCycleLR", lr_scheduler_args="max_lr=2e-4 total_steps=total")
    assert max(actual) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("StepLR", "step_size=2 gamma=0.5", [1, 1, 0.5, 0.5, 0.25]),
        ("torch.optim.lr_scheduler.ExponentialLR", "gamma=0.5", [1, 0.5, 0.25, 0.125, 0.0625]),
        ("multisteplr", "milestones=[1,3] gamma=0.1", [1, 0.1, 0.1, 0.01, 0.01]),
        ("PolynomialLR", "total_iters=total power=2", [1, 0.64, 0.36, 0.16, 0.04]),
        ("CosineAnnealingWarmRestarts", "T_0=2", [1, 0.5, 1, 0.5, 1]),
    ],
)
def test_other_classes_are_read_off_and_not_warned_about(name, arguments, expected):
    assert factors(5, lr_scheduler_type=name, lr_scheduler_args=arguments) == pytest.approx(expected)
    assert not warned(5, lr_scheduler_type=name, lr_scheduler_args=arguments)


def test_a_curve_that_turns_back_up_is_warned_about_with_the_cure():
    (sentence,) = warned(1400, lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=200")
    assert "after step 201 of 1400" in sentence
    assert sentence.endswith("write T_max=total")
    assert not warned(200, lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=200")


def test_a_run_that_was_cut_short_ends_its_curve_there():
    optimizer = OptimizerConfig(lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=200")
    cut = run_factors(optimizer, 130, 0, 1.0, ends_with_run=True)
    assert cut == factors(130, lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=130")


def test_schedule_free_optimizers_want_no_schedule():
    assert "constant" in warned(10, optimizer="ProdigyPlusScheduleFree")[0]
    assert not warned(10, optimizer="ProdigyPlusScheduleFree", lr_scheduler="constant")
    assert "constant" in warned(10, optimizer_type="prodigyplus.ProdigyPlusScheduleFree")[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr_scheduler_type": "CosineAnealingLR"}, 'did you mean "CosineAnnealingLR"'),
        ({"lr_scheduler_type": "ReduceLROnPlateau"}, "metrics|no LRScheduler"),  # it is one since torch 2.2
        ({"lr_scheduler_type": "LambdaLR", "lr_scheduler_args": "lr_lambda=3"}, "LambdaLR"),
        ({"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": "T_maxx=3"}, "T_maxx"),
        ({"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": "T_max=all"}, "lr_scheduler_args: T_max=all"),
        ({"lr_scheduler_type": "os.system"}, "no installed package"),
        ({"lr_scheduler_type": "LinearLR", "lr_scheduler_args": "end_factor=-1"}, "End"),
        ({"lr_scheduler": "cosine", "lr_scheduler_args": "T_max=200"}, "has no argument T_max"),
        ({"lr_scheduler": "piecewise_constant"}, "step_rules"),
        ({"lr_scheduler": "piecewise_constant", "lr_scheduler_args": "step_rules='1:x,2'"}, "step_rules"),
        ({"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": "21"}, "does not fit"),
    ],
)
def test_what_is_no_schedule_is_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        factors(20, **settings)


def test_step_rules_are_read_as_diffusers_reads_them():
    schedule = pytest.importorskip("diffusers.optimization").get_piecewise_constant_schedule
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, "1:3,0.1:7,0.01")
    expected = []
    for _ in range(10):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert factors(10, lr_scheduler="piecewise_constant", lr_scheduler_args="step_rules='1:3,0.1:7,0.01'") == expected


def test_rex_is_the_papers():
    actual = factors(10, lr_scheduler="rex", lr_scheduler_min_lr_ratio=0.1)
    assert actual == pytest.approx([0.1 + 0.9 * (1 - t / 10) / (0.5 + 0.5 * (1 - t / 10)) for t in range(10)])


def test_groups_have_their_own_rates_or_the_text_encoders_as_long_ago():
    groups = [("unet", 1.0), ("unet", 0.5), ("te1", 1.0), ("te2", 0.0)]
    guide = {"learning_rate": 1.0, "text_encoder_lr": 0.5}
    assert learning_rates(OptimizerConfig(**guide), groups) == [1.0, 0.5, 0.5, 0.0]
    assert learning_rates(OptimizerConfig(**guide, lr_groups="legacy_single"), groups) == [0.5, 0.5, 0.5, 0.0]
    frozen = OptimizerConfig(learning_rate=1.0, text_encoder_lr=0.0, lr_groups="legacy_single")
    assert learning_rates(frozen, groups) == [1.0, 1.0, 0.0, 0.0]
