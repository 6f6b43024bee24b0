"""Noise schedule, targets and weights by numbers worked out independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer_core.diffusion.loss import min_snr_weights, weighted_mse
from trainer_core.diffusion.noise import draw_noise, draw_timesteps, mixed_seed, seeded
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


def test_min_snr_weights():
    t = torch.tensor([0, 300, 600, 999])
    snr = (EPSILON.alphas_cumprod / (1 - EPSILON.alphas_cumprod))[t].double().numpy()
    assert min_snr_weights(EPSILON, t, 5.0).numpy() == pytest.approx(np.minimum(snr, 5) / snr, rel=1e-5)
    assert min_snr_weights(VELOCITY, t, 5.0).numpy() == pytest.approx(np.minimum(snr, 5) / (snr + 1), rel=1e-5)
    at_the_end = min_snr_weights(zero_terminal_snr(VELOCITY), t, 5.0)
    assert at_the_end.isfinite().all() and at_the_end[-1] == 0


def test_weighted_mse_weighs_samples_not_pixels():
    prediction, target = torch.tensor([[1.0, 3.0], [0.0, 2.0]]).view(2, 1, 1, 2), torch.zeros(2, 1, 1, 2)
    assert weighted_mse(prediction, target, None) == pytest.approx((5 + 2) / 2)
    assert weighted_mse(prediction, target, torch.tensor([0.5, 2.0])) == pytest.approx((2.5 + 4) / 2)


def test_randomness_is_a_function_of_the_seed_and_leaves_the_hosts_alone():
    before = torch.get_rng_state()
    draws = [draw_noise((2, 3), seeded(mixed_seed(7, step), "cpu")) for step in (1, 2, 1)]
    assert torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_mixed_seeds_differ_in_every_argument_and_order():
    seeds = {mixed_seed(a, b) for a in range(40) for b in range(40)}
    assert len(seeds) == 1600 and all(0 <= seed < 2**63 for seed in seeds)
    bits = np.unpackbits(np.array([mixed_seed(31337, step) for step in range(4000)], dtype=np.uint64).view(np.uint8))
    assert bits.mean() == pytest.approx(0.5 * 63 / 64, abs=0.01)


def test_timesteps_stay_in_their_range_and_fill_it():
    t = draw_timesteps(5000, 100, 103, seeded(1, "cpu"))
    assert set(t.tolist()) == {100, 101, 102}
