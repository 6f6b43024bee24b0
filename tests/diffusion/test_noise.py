"""Noise: kohya's formulas, worked out again in numpy, from draws that are a function of the seed alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from trainer_core.config import LossConfig
from trainer_core.diffusion.noise import (
    draw_noise,
    input_noise,
    mixed_seed,
    seeded,
    training_noise,
    with_coarser_levels,
    with_offset,
)

SHAPE = (3, 4, 8, 12)
LATENTS = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5)) + 0.3


def drawn(*shapes, seed=11):
    """What a generator of that seed gives for each shape in turn; "u" is one number from U(0, 1)."""
    generator = seeded(seed, "cpu")
    draws = [torch.rand(1, generator=generator) if s == "u" else torch.randn(s, generator=generator) for s in shapes]
    return [each.numpy().astype(np.float64) for each in draws]


def test_plain_noise_is_what_the_generator_gives():
    (plain,) = drawn(SHAPE)
    assert np.array_equal(training_noise(LATENTS, LossConfig(), seeded(11, "cpu")).numpy(), plain.astype(np.float32))


def test_randomness_is_a_function_of_the_seed_and_leaves_the_hosts_alone():
    settings = LossConfig(
        noise_offset=0.1,
        noise_offset_random_strength=True,
        multires_noise_iterations=4,
        ip_noise_gamma=0.1,
        ip_noise_gamma_random_strength=True,
    )
    before, python_before = torch.get_rng_state(), random.getstate()

    def once(step):
        generator = seeded(mixed_seed(7, step), "cpu")
        return input_noise(training_noise(LATENTS, settings, generator), settings, generator)

    draws = [once(step) for step in (1, 2, 1)]
    assert torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[1])
    assert torch.equal(torch.get_rng_state(), before) and random.getstate() == python_before


def test_offset_shifts_whole_channels():
    noise, shift = drawn(SHAPE, (3, 4, 1, 1))
    ours = training_noise(LATENTS, LossConfig(noise_offset=0.5), seeded(11, "cpu"))
    assert ours.numpy() == pytest.approx(noise + 0.5 * shift, abs=1e-6)


def test_offset_of_random_strength_has_one_strength_a_batch():
    noise, strength, shift = drawn(SHAPE, "u", (3, 4, 1, 1))
    settings = LossConfig(noise_offset=0.5, noise_offset_random_strength=True)
    ours = training_noise(LATENTS, settings, seeded(11, "cpu"))
    assert ours.numpy() == pytest.approx(noise + 0.5 * strength * shift, abs=1e-6)


@pytest.mark.parametrize("scale", [0.2, -0.2])
def test_adaptive_scale_follows_the_channels_mean_and_never_turns_the_offset_round(scale):
    noise, shift = drawn(SHAPE, (3, 4, 1, 1))
    means = np.abs(LATENTS.numpy().astype(np.float64).mean((2, 3), keepdims=True))
    offset = np.maximum(0, 0.05 + scale * means)
    assert (offset == 0).any() == (scale < 0), "the bound is met by this example"
    ours = training_noise(LATENTS, LossConfig(noise_offset=0.05, adaptive_noise_scale=scale), seeded(11, "cpu"))
    assert ours.numpy() == pytest.approx(noise + offset * shift, abs=1e-6)


def test_coarser_levels_are_kohyas():
    """A loop as in kohya's pyramid_noise_like, with the sizes that this seed gives."""
    noise = torch.randn(2, 4, 24, 32)
    ours = with_coarser_levels(noise, 10, 0.6, seeded(21, "cpu"))
    generator, dice, expected, sizes = seeded(21, "cpu"), random.Random(21), noise.clone(), []
    for i in range(10):
        r = dice.random() * 2 + 2
        sizes.append((max(1, int(24 / r**i)), max(1, int(32 / r**i))))
        level = torch.randn(2, 4, *sizes[-1], generator=generator)
        expected += torch.nn.Upsample(size=(24, 32), mode="bilinear")(level) * 0.6**i
        if 1 in sizes[-1]:
            break
    assert sizes[0] == (24, 32) and 1 in sizes[-1] and len(sizes) < 10
    assert torch.allclose(ours, expected / expected.std(), atol=1e-5)


def test_coarser_levels_keep_the_size_of_noise_and_put_more_of_it_into_low_frequencies():
    plain = draw_noise((8, 4, 64, 64), seeded(1, "cpu"))
    coarse = with_coarser_levels(plain, 6, 0.5, seeded(1, "cpu"))
    assert float(coarse.std()) == pytest.approx(1, abs=1e-4)
    assert float(coarse.mean((2, 3)).std()) > 3 * float(plain.mean((2, 3)).std())


def test_coarser_levels_are_one_draw_each(monkeypatch):
    from trainer_core.diffusion import noise as module

    calls = []
    monkeypatch.setattr(module, "draw_noise", lambda *args: (calls.append(args[0]), draw_noise(*args))[1])
    module.with_coarser_levels(torch.zeros(4, 4, 128, 128), 10, 0.3, seeded(0, "cpu"))
    assert 3 <= len(calls) <= 8, "r is 2 to 4, so 128 is 1 after 4 to 7 levels"


def test_input_noise_is_seen_and_not_asked_for():
    noise = torch.randn(SHAPE)
    (more,) = drawn(SHAPE)
    ours = input_noise(noise, LossConfig(ip_noise_gamma=0.1), seeded(11, "cpu"))
    assert ours.numpy() == pytest.approx(noise.numpy() + 0.1 * more, abs=1e-6)
    strength, more = drawn("u", SHAPE)
    random_one = LossConfig(ip_noise_gamma=0.1, ip_noise_gamma_random_strength=True)
    assert input_noise(noise, random_one, seeded(11, "cpu")).numpy() == pytest.approx(
        noise.numpy() + 0.1 * strength * more, abs=1e-6
    )
    assert input_noise(noise, LossConfig(), seeded(11, "cpu")) is noise


def test_mixed_seeds_differ_in_every_argument_and_order():
    seeds = {mixed_seed(a, b) for a in range(40) for b in range(40)}
    assert len(seeds) == 1600 and all(0 <= seed < 2**63 for seed in seeds)
    bits = np.unpackbits(np.array([mixed_seed(31337, step) for step in range(4000)], dtype=np.uint64).view(np.uint8))
    assert bits.mean() == pytest.approx(0.5 * 63 / 64, abs=0.01)


def test_offset_of_nothing_is_nothing():
    noise = torch.randn(SHAPE)
    assert torch.equal(with_offset(noise, LATENTS, LossConfig(noise_offset=0.0), seeded(1, "cpu")), noise)
