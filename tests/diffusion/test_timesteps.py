"""Timesteps: their range, their distribution, and that a batch is a function of the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainer_core.config import LossConfig
from trainer_core.diffusion.noise import seeded
from trainer_core.diffusion.timesteps import draw_timesteps

KINDS = ["uniform", "sigmoid", "shift", "stratified"]


def draw(count, seed=1, **settings):
    return draw_timesteps(count, LossConfig(**settings), seeded(seed, "cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_timesteps_stay_in_their_range_and_fill_it(kind):
    t = draw(5000, timestep_sampling=kind, min_timestep=100, max_timestep=103)
    assert t.dtype == torch.int64 and set(t.tolist()) == {100, 101, 102}


@pytest.mark.parametrize("kind", KINDS)
def test_timesteps_are_a_function_of_the_seed(kind):
    assert torch.equal(draw(16, timestep_sampling=kind), draw(16, timestep_sampling=kind))
    assert not torch.equal(draw(16, timestep_sampling=kind), draw(16, seed=2, timestep_sampling=kind))


def test_an_extreme_sigmoid_stays_below_the_end():
    t = draw(2000, timestep_sampling="shift", sigmoid_scale=1e4, discrete_flow_shift=50.0)
    assert int(t.min()) == 0 and int(t.max()) == 999


def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / 2**0.5))


@pytest.mark.parametrize(
    ("settings", "share_below"),
    [
        ({"timestep_sampling": "uniform"}, lambda u: u),
        ({"timestep_sampling": "stratified"}, lambda u: u),
        # P(sigmoid(s·ξ) < u) = Φ(logit(u)/s)
        ({"timestep_sampling": "sigmoid"}, lambda u: normal_cdf(math.log(u / (1 - u)))),
        ({"timestep_sampling": "sigmoid", "sigmoid_scale": 0.5}, lambda u: normal_cdf(2 * math.log(u / (1 - u)))),
        # the shift's inverse: σ = u/(s − (s−1)u)
        (
            {"timestep_sampling": "shift", "discrete_flow_shift": 3.0},
            lambda u: normal_cdf(math.log((u / (3 - 2 * u)) / (1 - u / (3 - 2 * u)))),
        ),
    ],
)
def test_timesteps_are_distributed_as_named(settings, share_below):
    t = draw(40_000, **settings).numpy()
    for u in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.mean(t < 1000 * u) == pytest.approx(share_below(u), abs=0.012)


def test_a_stratified_batch_covers_the_range_in_random_order():
    batches = [draw(10, seed=seed, timestep_sampling="stratified") for seed in range(50)]
    assert all(sorted((batch // 100).tolist()) == list(range(10)) for batch in batches)
    assert len({int(batch[0]) // 100 for batch in batches}) == 10
