import random
from types import SimpleNamespace

import pytest
import torch

from trainer_core.demo.backdrops import Backdrop
from trainer_core.demo.denoiser import FIGURE_WEIGHT, build_scheduler, figure_weight, velocity_loss
from trainer_core.demo.world import Figure, Scene, random_scene


def test_schedule_ends_in_pure_noise():
    pytest.importorskip("diffusers")
    alphas = build_scheduler().alphas_cumprod
    assert alphas[-1] == pytest.approx(0, abs=1e-6)
    assert (alphas.diff() < 0).all()


def test_velocity_loss_is_the_error_of_v():
    latents = torch.randn(6, 4, 16, 16)
    alphas = torch.linspace(0.999, 0.001, 1000)

    def oracle(x_t, t, context):
        signal, spread = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        noise = (x_t - signal * latents) / spread
        return SimpleNamespace(sample=signal * noise - spread * latents + 0.5)

    assert velocity_loss(oracle, latents, torch.zeros(6), alphas, torch.ones(())).item() == pytest.approx(
        0.25, abs=1e-3
    )


def test_figures_count_more_than_backgrounds_and_the_mean_stays_one():
    scene = Scene((Figure("star", "red", 16, 48, 12),), Backdrop("plain", ("blue",)))
    weight = figure_weight([scene, random_scene(random.Random(1))])
    assert weight.shape == (2, 1, 16, 16)
    assert weight.mean().item() == pytest.approx(1)
    assert weight[0, 0, 12, 4] == pytest.approx(FIGURE_WEIGHT * weight[0, 0, 0, 15].item())
