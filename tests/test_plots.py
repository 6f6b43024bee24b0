"""Curves are drawn whatever the numbers, and without the host's own plots noticing."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from trainer_core import plots
from trainer_core.errors import LazyLoraError
from trainer_core.events import Measurement, Spiked
from trainer_core.plots import curves, moving_average, smoothing_window, thinned


def measurements(count: int, **changes) -> list[Measurement]:
    values = {"loss": 0.1, "grad_norm": 1.0, "lr": {"unet": 1e-4, "te1": 5e-5}, "d": 1e-4, **changes}
    return [Measurement(step=step, epoch=(step - 1) // 10 + 1, **values) for step in range(1, count + 1)]


@pytest.mark.parametrize(
    "shown",
    [
        [],
        measurements(1),
        measurements(50),
        measurements(30, loss=math.nan),
        measurements(30, lr={"unet": 0.0}),
        measurements(30, lr={}, d=None),
        measurements(30, lr={"te1": 1e-4, **{f"unet x{number / 10:g}": number * 1e-5 for number in range(1, 10)}}),
        [*measurements(20, lr={"unet": 1e-8}), *measurements(3, lr={"unet": 1e-3})],
    ],
    ids=["none", "one", "many", "no numbers", "no rate", "no groups", "blocks", "decades"],
)
def test_any_run_has_a_picture_of_the_size_asked_for(shown: list[Measurement]):
    picture = curves(shown, width=640, height=400)
    assert picture.size == (640, 400) and picture.mode == "RGB"


def test_curves_show_the_numbers():
    flat, falling = measurements(50), [*measurements(25, loss=0.5), *measurements(25, loss=0.1)]
    assert not (np.asarray(curves(flat)) == np.asarray(curves(falling))).all()


def test_spikes_are_marked_and_no_curve_runs_through_the_legend():
    high = measurements(50, lr={"unet": 1e-4, "te1": 1e-4})
    plain, marked = np.asarray(curves(high)), np.asarray(curves(high, spikes=[Spiked(30, 3, 4.0)]))
    assert not (plain == marked).all()
    red = (marked[..., 0] > 180) & (marked[..., 1] < 90) & (marked[..., 2] < 90)
    columns = np.flatnonzero(red.any(axis=0))
    assert len(columns) and red[:, columns].any(axis=1).sum() > 50  # a line from top to bottom


def test_pyplot_is_left_alone():
    pytest.importorskip("matplotlib")
    had_pyplot = "matplotlib.pyplot" in sys.modules
    curves(measurements(5))
    assert had_pyplot or "matplotlib.pyplot" not in sys.modules


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch):
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LazyLoraError, match="pip install matplotlib"):
        curves(measurements(5))


def test_the_moving_average_passes_over_what_is_no_number():
    assert moving_average([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    assert moving_average([1, math.nan, 3], 3) == [1, 1, 2]
    assert math.isnan(moving_average([math.inf], 3)[0])


def test_the_window_is_a_twentieth_of_the_run():
    assert [smoothing_window(steps) for steps in (10, 400, 100_000)] == [5, 20, 200]


def test_a_thinned_run_keeps_its_last_step():
    kept = thinned(measurements(1001), most=100)
    assert len(kept) <= 101 and kept[0].step == 1 and kept[-1].step == 1001
    assert thinned([]) == [] and len(thinned(measurements(5))) == 5


def test_blocks_with_a_rate_of_their_own_are_thin_lines_in_their_components_colour():
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    plots._draw_rates(axes, measurements(5, lr={"te1": 1e-4, "unet": 1e-4, "unet x0.5": 5e-5}))
    text, unet, half = axes.get_lines()
    assert [each.get_label() for each in (text, unet, half)] == ["te1", "unet", "unet ×0.5"]
    assert half.get_color() == unet.get_color() != text.get_color() and half.get_linewidth() < unet.get_linewidth()
