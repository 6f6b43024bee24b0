"""Noise, each draw a function of (seed, step), never of history: a resumed run equals an uninterrupted one.

The variants are kohya's, with its names: sd-scripts 48d368fa, library/custom_train_functions.py and
`get_noise_noisy_latents_and_timesteps` in library/train_util.py."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..config import LossConfig

_MASK = 2**64 - 1


def mixed_seed(*numbers: int) -> int:
    """One well-spread seed in [0, 2⁶³) out of several numbers (SplitMix64's finalizer; Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + (number & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def seeded(seed: int, device: torch.device | str) -> torch.Generator:
    """A generator of our own on the device: the host's global random state is never touched."""
    return torch.Generator(device=device).manual_seed(seed)


def draw_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal noise, fp32, on the generator's device."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device)


def training_noise(latents: Tensor, loss: LossConfig, generator: torch.Generator) -> Tensor:
    """The noise that latents [B, C, h, w] are trained with: plain, or shifted and coarsened as the settings say."""
    noise = draw_noise(latents.shape, generator)
    if loss.noise_offset:
        noise = with_offset(noise, latents, loss, generator)
    if loss.multires_noise_iterations:
        noise = with_coarser_levels(noise, loss.multires_noise_iterations, loss.multires_noise_discount, generator)
    return noise


def with_offset(noise: Tensor, latents: Tensor, loss: LossConfig, generator: torch.Generator) -> Tensor:
    """ε + o·ξ with one ξ ~ N(0, 1) for each channel of each sample (Guttenberg, crosslabs.org, 2023), [B, C, h, w].

    o: noise_offset, times one U(0, 1) for the batch with random strength; plus adaptive_noise_scale·|mean of the
    latents' channel|, then not below 0."""
    offset = _strength(loss.noise_offset, loss.noise_offset_random_strength, generator)
    if loss.adaptive_noise_scale:
        offset = (offset + loss.adaptive_noise_scale * latents.mean((2, 3), keepdim=True).abs()).clamp(min=0)
    return noise + offset * draw_noise((*noise.shape[:2], 1, 1), generator)


def with_coarser_levels(noise: Tensor, iterations: int, discount: float, generator: torch.Generator) -> Tensor:
    """Pyramid noise (Whitaker, wandb.ai, 2023), [B, C, h, w]: adds noise of h/rⁱ × w/rⁱ, enlarged, times discountⁱ.

    i counts from 0, r ~ U(2, 4) anew for each level, and a level one pixel wide or high is the last. The sum is divided
    by its standard deviation over the whole batch, as kohya's is."""
    height, width = noise.shape[2:]
    dice = random.Random(generator.initial_seed())  # the levels' sizes must be known here, not on the device
    for level in range(iterations):
        shrink = dice.uniform(2, 4) ** level
        size = max(1, int(height / shrink)), max(1, int(width / shrink))
        coarse = draw_noise((*noise.shape[:2], *size), generator)
        noise = noise + interpolate(coarse, (height, width), mode="bilinear") * discount**level
        if 1 in size:
            break
    return noise / noise.std()


def input_noise(noise: Tensor, loss: LossConfig, generator: torch.Generator) -> Tensor:
    """The noise that the network sees: ε, or ε + γ·ε′ while ε stays its target (Ning et al. 2023, arXiv:2301.11706).

    γ: ip_noise_gamma, times one U(0, 1) for the batch with random strength."""
    if not loss.ip_noise_gamma:
        return noise
    strength = _strength(loss.ip_noise_gamma, loss.ip_noise_gamma_random_strength, generator)
    return noise + strength * draw_noise(noise.shape, generator)


def _strength(most: float, is_random: bool, generator: torch.Generator) -> Tensor | float:
    return most * torch.rand(1, generator=generator, device=generator.device) if is_random else most
