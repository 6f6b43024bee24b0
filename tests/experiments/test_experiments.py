"""Verdicts follow from numbers, pages from verdicts, and a trial is a real training."""

from __future__ import annotations

import pytest

from trainer_core.config import TrainConfig
from trainer_core.demo.metrics import EpochScores
from trainer_core.demo.run import demo_config
from trainer_core.experiments.claims import CLAIMS, CONFIRMED, NOT_CONFIRMED, NOT_TESTABLE, Claim
from trainer_core.experiments.page import write_page
from trainer_core.experiments.trial import Trial, load_trial, run_trial, save_trial
from trainer_core.networks import ALGORITHMS
from trainer_core.optim import OPTIMIZERS
from trainer_core.settings import from_json, merged, to_json


def claim(name: str) -> Claim:
    return next(each for each in CLAIMS if each.name == name)


def trial(arm: str, totals: list[float], d: float | None = 1e-3, bleed: float = 0.0, size: int = 1000) -> Trial:
    """A trial whose epochs score these totals: likeness = total + bleed / 2 at full obedience."""
    epochs = tuple(
        EpochScores(n, total + bleed / 2, 1.0, bleed, held_out_loss=0.3 + 0.01 * n)
        for n, total in enumerate(totals, start=1)
    )
    return Trial(arm, 1, epochs, ((1, 1e-4), (2, d or 1e-4)), ((1, 0.5),), d, size, 1.0)


def test_overfitting_needs_a_best_epoch_in_the_middle():
    judge = claim("Epochs improve, then overfit").judge
    assert judge({"long": [trial("long", [0.1, 0.6, 0.3])] * 3}).word == CONFIRMED
    assert judge({"long": [trial("long", [0.1, 0.3, 0.6])] * 3}).word == NOT_CONFIRMED


def test_decay_is_a_knob_only_beyond_the_seeds_noise():
    judge = claim("Weight decay is the primary knob").judge
    apart = {"decay 0": [trial("", [0.2]), trial("", [0.22])], "decay 1": [trial("", [0.6]), trial("", [0.61])]}
    mixed = {"decay 0": [trial("", [0.2]), trial("", [0.6])], "decay 1": [trial("", [0.25]), trial("", [0.62])]}
    assert judge(apart).word == CONFIRMED
    assert judge(mixed).word == NOT_CONFIRMED
    assert claim("Weight decay changes nothing visible").judge(apart).word == NOT_CONFIRMED


def test_a_smaller_alpha_must_double_d():
    judge = claim("Alpha below rank makes d larger").judge
    grows = {"alpha 1": [trial("", [0.1], 9e-3)], "alpha 4": [trial("", [0.1], 3e-3)], "alpha 16": [trial("", [0.1])]}
    assert judge(grows).word == CONFIRMED
    assert judge({**grows, "alpha 1": [trial("", [0.1], 1.5e-3)]}).word == NOT_CONFIRMED


def test_every_arm_is_a_valid_setting_of_a_known_algorithm_and_optimizer(tmp_path):
    base = to_json(demo_config(tmp_path))
    for each in CLAIMS:
        for settings in each.arms.values():
            config = from_json(TrainConfig, merged(base, settings))
            ALGORITHMS.get(config.network.algo)
            OPTIMIZERS.get(config.optimizer.optimizer)


def test_a_claim_without_arms_says_why_it_cannot_be_tried():
    untried = [each for each in CLAIMS if not each.arms]
    assert untried
    for each in untried:
        assert each.judge({}).word == NOT_TESTABLE
        assert each.judge({}).because


def test_the_page_holds_every_claim_with_its_verdict_and_plot(tmp_path):
    shown = claim("d_coef scales the rate")
    results = {arm: [trial(arm, [0.1, 0.4], d)] * 2 for arm, d in zip(shown.arms, (1e-3, 2e-3, 3e-3))}
    untried = claim("768 at rate 1 melts")
    text = write_page([(shown, results), (untried, {})], tmp_path).read_text(encoding="utf-8")
    assert "| [d_coef scales the rate](#d_coef-scales-the-rate) |" in text
    assert "**Confirmed.**" in text
    assert "not testable here" in text
    assert (tmp_path / "images" / "experiments" / "d_coef-scales-the-rate.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_trial_is_a_training_that_is_judged_and_kept(tmp_path):
    settings = {"max_train_epochs": 1, "dataset": {"batch_size": 64}, "network": {"algo": "lora", "rank": 2}}
    made = run_trial("tiny", settings, seed=1)
    assert len(made.epochs) == 1
    assert made.d is not None and made.d > 0
    assert made.file_bytes > 1000
    save_trial(made, tmp_path / "t.json")
    assert load_trial(tmp_path / "t.json") == made


def test_small_adapters_must_be_small_and_draw_nearly_as_well():
    judge = claim("Small adapters suffice").judge
    good = {arm: [trial("", [0.5], size=size)] for size, arm in enumerate(("(IA)³", "LoKr", "LoRA", "LoCon"), start=1)}
    assert judge(good).word == CONFIRMED
    assert judge({**good, "(IA)³": [trial("", [0.1], size=1)]}).word == NOT_CONFIRMED
    assert judge({**good, "(IA)³": [trial("", [0.5], size=9)]}).word == NOT_CONFIRMED
