"""Noise schedule and targets by numbers worked out independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer_core.diffusion.process import Process, scaled_linear_alphas, zero_terminal_snr
from trainer_core.errors import ConfigError

EPSILON = Process("epsilon", scaled_linear_alphas())
VELOCITY = Process("v_prediction", scaled_linear_alphas())


def test_the_noise_table_is_stable_diffusions():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    expected = np.cumprod(1 - betas)
    assert EPSILON.alphas_cumprod.numpy() == pytest.approx(expected, rel=1e-6)
    assert expected[-1] == pytest.approx(0.0046598, rel=1e-4)  # SD's terminal ᾱ, as everyone quotes it


@pytest.mark.parametrize("process", [EPSILON, VELOCITY], ids=lambda process: process.prediction)
def test_noised_and_target_agree_with_diffusers(process):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, noise = torch.randn(2, 3, 4, 8, 8).unbind(0)
    t = torch.tensor([0, 500, 999])
    assert torch.allclose(process.noised(latents, noise, t), scheduler.add_noise(latents, noise, t), atol=1e-6)
    expected = noise if process is EPSILON else scheduler.get_velocity(latents, noise, t)
    assert torch.allclose(process.target(latents, noise, t), expected, atol=1e-6)


def test_latents_are_found_again_from_velocity():
    latents, noise = torch.randn(2, 4, 4, 8, 8).unbind(0)
    t = torch.tensor([1, 250, 700, 999])
    alphas = VELOCITY.alphas_cumprod[t].view(-1, 1, 1, 1)
    x_t, v = VELOCITY.noised(latents, noise, t), VELOCITY.target(latents, noise, t)
    assert torch.allclose(alphas.sqrt() * x_t - (1 - alphas).sqrt() * v, latents, atol=1e-5)


def test_zero_terminal_snr_agrees_with_diffusers_and_ends_in_pure_noise():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )
    ours = zero_terminal_snr(VELOCITY).alphas_cumprod
    assert torch.allclose(ours, theirs.alphas_cumprod, atol=2e-6)
    assert ours[-1] == 0 and ours[0] == pytest.approx(float(VELOCITY.alphas_cumprod[0]))
    with pytest.raises(ConfigError, match="velocity"):
        zero_terminal_snr(EPSILON)
