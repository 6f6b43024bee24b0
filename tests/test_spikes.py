"""A leap of d·lr is found at its step; nothing that a sound run does is taken for one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.events import Measurement
from trainer_core.spikes import SpikeDetector, spike_words


def measurements(ds: Sequence[float | None], factors: Sequence[float] | None = None) -> list[Measurement]:
    factors = factors or [1.0] * len(ds)
    return [
        Measurement(step, (step - 1) // 20 + 1, 0.1, 1.0, {"unet": (d or 1.0) * factor}, d)
        for step, (d, factor) in enumerate(zip(ds, factors), start=1)
    ]


def spikes(ds: Sequence[float | None], ratio: float = 2.0) -> list[int]:
    return [spike.step for spike in SpikeDetector(len(ds), ratio).find(measurements(ds))]


def search(steps: int, end: float = 1e-4, growth: float = 1.3) -> list[float]:
    """d's first search, from 1e-6, then standing for the rest of `steps`."""
    return [min(end, 1e-6 * growth**step) for step in range(steps)]


def with_leap(at: int, rise: float, steps: int = 400) -> list[float]:
    return [d * (rise if step >= at else 1.0) for step, d in enumerate(search(steps), start=1)]


def test_a_leap_is_marked_at_the_step_that_makes_it():
    found = list(SpikeDetector(400, 2.0).find(measurements(with_leap(130, 5.0))))
    assert [(spike.step, spike.epoch) for spike in found] == [(130, 7)]
    assert found[0].rise == pytest.approx(5.0)


def test_a_leap_of_a_few_steps_is_found_while_it_goes_on():
    ds = search(400)
    for step in range(200, 400):
        ds[step] = ds[199] * min(10.0, 1.25 ** (step - 199))
    [step] = spikes(ds)
    assert 200 < step <= 210


@pytest.mark.parametrize("ratio", [1.5, 3.0])
def test_the_ratio_is_what_counts(ratio):
    assert spikes(with_leap(150, ratio * 1.01), ratio) == [150]
    assert spikes(with_leap(150, ratio * 0.99), ratio) == []


def test_each_leap_counts_once_and_d_has_to_stand_in_between():
    ds = [d * (4.0 if step >= 300 else 1.0) for step, d in enumerate(with_leap(130, 5.0), start=1)]
    assert spikes(ds) == [130, 300]


SOUND = {
    "a search in leaps": [1e-6] * 5 + [2e-6] * 3 + [4e-5] * 10 + [3e-4] * 300,
    "a slow start": [1e-6] * 100 + search(300),
    "a growth that is held to 2 % a step": search(800, end=1e-3, growth=1.02),
    "a creep": [d * 1.005**step for step, d in enumerate(search(600))],
    "the first value all along": [1e-4] * 300,
    "an optimizer without d": [None] * 300,
    "numbers that are none": [math.nan, math.inf, 0.0] * 100,
}


@pytest.mark.parametrize("ds", SOUND.values(), ids=SOUND)
def test_what_sound_runs_do_is_no_spike(ds):
    assert spikes(ds) == []


@pytest.mark.parametrize("name", ["cosine", "cosine_with_restarts", "constant_with_warmup", "linear"])
@pytest.mark.parametrize("optimizer", ["Prodigy", "DAdaptAdam"])
def test_real_optimizers_under_real_schedules_have_none_unless_the_data_change(optimizer, name):
    assert _trained(optimizer, name, change_at=None) == []


def test_data_that_change_make_prodigy_leap():
    [step] = _trained("Prodigy", "cosine", change_at=200)
    assert 200 <= step < 210


@given(st.lists(st.floats(1e-7, 1e-2), min_size=60, max_size=250), st.data())
def test_a_stopped_run_that_looks_again_decides_alike(values, data):
    ds = list(itertools.accumulate(values, max))
    stop = data.draw(st.integers(0, len(ds)))
    whole = list(SpikeDetector(len(ds), 2.0).find(measurements(ds)))
    resumed = SpikeDetector(len(ds), 2.0)
    parts = [*resumed.find(measurements(ds)[:stop]), *resumed.find(measurements(ds)[stop:])]
    assert parts == whole
    for spike in whole:  # by what came before and nothing else
        assert spike in list(SpikeDetector(len(ds), 2.0).find(measurements(ds)[: spike.step]))


@pytest.mark.parametrize("on_spike", ["warn", "stop", "cut"])
def test_the_words_name_step_epoch_and_what_happens(on_spike):
    [spike] = SpikeDetector(400, 2.0).find(measurements(with_leap(130, 5.0)))
    words = spike_words(spike, on_spike)
    assert "step 130" in words and "epoch 7" in words and "5 times" in words
    assert {"warn": "d_coef", "stop": "ends with epoch 6", "cut": "goes on from epoch 6"}[on_spike] in words


def _trained(optimizer: str, schedule: str, change_at: int | None, steps: int = 400) -> list[int]:
    """A small regression by the optimizer; at `change_at` its targets become thirty times as large."""
    import torch

    from trainer_core.optim import FlatBuffer, ParamGroup, build_optimizer, learning_rate_factors

    dice = torch.Generator().manual_seed(0)
    inputs, mixing = torch.randn(256, 32, generator=dice), torch.randn(32, 16, generator=dice) / 5
    targets = torch.tanh(inputs @ mixing) + 0.3 * torch.randn(256, 16, generator=dice)
    down = torch.nn.Parameter(torch.randn(8, 32, generator=dice) / 6)
    up = torch.nn.Parameter(torch.zeros(16, 8))
    buffer = FlatBuffer([ParamGroup("unet", {"down": down, "up": up}, 1.0)])
    learner = build_optimizer(optimizer, buffer, {})
    warmup = 0 if schedule in ("cosine", "linear") else 40
    factors = learning_rate_factors(schedule, steps, warmup, num_cycles=3)
    ds = []
    for step, factor in enumerate(factors):
        rows = torch.randint(0, 256, (4,), generator=dice)
        wanted = targets[rows] * (30.0 if change_at is not None and step >= change_at else 1.0)
        ((inputs[rows] @ down.T @ up.T - wanted) ** 2).mean().backward()
        learner.step(factor)
        buffer.zero_grads()
        ds.append(float(learner.d))
    return spikes(ds)
