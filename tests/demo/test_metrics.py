import pytest
import torch
from PIL import Image

from trainer_core.demo import character, metrics
from trainer_core.demo.character import Pose, draw_portrait, training_portraits
from trainer_core.demo.likeness import fit_mascot
from trainer_core.demo.metrics import EpochScores, bleed, held_out_loss, rank_epochs, rigidity, score_epoch


def test_perfect_pictures_score_high():
    prompts = character.test_prompts()
    places = {"": 32, "on the left": 19, "on the right": 45}
    pictures = [draw_portrait(Pose(places[p.position], 32, 15), p.backdrop).picture for p in prompts]
    controls = [Image.new("RGB", (64, 64), "red")]
    scores = score_epoch(3, pictures, prompts, controls, controls, training=training_portraits())
    assert scores.likeness > 0.9
    assert scores.obedience > 0.9
    assert scores.bleed == 0
    assert scores.rigidity > 0.7  # the set varies by a pixel, which is as fine as the fit is


def test_bleed_counts_visibly_changed_pixels():
    before, after = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "red")
    after.paste((0, 0, 255), (0, 0, 32, 64))
    assert bleed([after], [before]) == pytest.approx(0.5)
    assert bleed([Image.new("RGB", (64, 64), (240, 20, 10))], [before]) == 0


def test_varied_poses_are_not_rigid():
    training = training_portraits()
    shown = [p.picture for p in training if not p.position and not p.size]
    assert rigidity(fit_mascot(shown), training) < 0.3


def test_held_out_loss_is_zero_for_the_true_velocity_and_repeatable_otherwise():
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    alphas = torch.linspace(0.999, 0.001, 1000)

    def oracle(x_t, t, captions):
        signal, spread = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        noise = (x_t - signal * latents) / spread
        return signal * noise - spread * latents

    assert held_out_loss(oracle, latents, [""] * 3, alphas) < 1e-6
    blind = [held_out_loss(lambda x, t, c: torch.zeros_like(x), latents, [""] * 3, alphas) for _ in range(2)]
    assert blind[0] == blind[1] > 0.5


def test_ranking_names_the_best_epoch_and_sees_through_the_others():
    run = [
        EpochScores(1, 0.15, 0.95, 0.01, held_out_loss=0.30),
        EpochScores(2, 0.50, 0.95, 0.03, held_out_loss=0.29),
        EpochScores(3, 0.80, 0.93, 0.05, held_out_loss=0.30),
        EpochScores(4, 0.81, 0.90, 0.14, held_out_loss=0.34),
        EpochScores(5, 0.70, 0.70, 0.30, held_out_loss=0.36),
    ]
    ranked = rank_epochs(run)
    verdicts = {r.scores.epoch: r.verdict for r in ranked}
    assert ranked[0].scores.epoch == 3
    assert verdicts == {1: "underbaked", 2: "underbaked", 3: "best", 4: "overfit", 5: "overfit"}
    assert "likeness fell" in next(r.why for r in ranked if r.scores.epoch == 5)


def test_equal_epochs_rank_the_earlier_first():
    ranked = rank_epochs([EpochScores(6, 0.8, 0.9, 0.05), EpochScores(4, 0.8, 0.9, 0.05)])
    assert [r.scores.epoch for r in ranked] == [4, 6]
    assert ranked[1].verdict == "close"


def test_ranking_nothing_is_an_error():
    with pytest.raises(ValueError, match="score at least one"):
        metrics.rank_epochs([])
