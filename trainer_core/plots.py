"""A run's curves as a picture: the loss, and the learning rates in effect (schedule × rate × d)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import cycle, pairwise
from typing import TYPE_CHECKING

from PIL import Image

from .errors import LazyLoraError
from .events import Measurement, Spiked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 100
_SHOWN_POINTS = 2000
_COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")
_MOST_NAMES = 6  # more would not fit above the curves
_SPIKE = "#dc2626"


def curves(
    measurements: Sequence[Measurement], width: int = 1024, height: int = 640, spikes: Sequence[Spiked] = ()
) -> Image.Image:
    """Loss above, learning rates below, over optimizer steps, epochs as thin lines; width × height pixels.

    spikes: where d·lr leapt up, as red lines.

    Losses jump from step to step with the timestep drawn, so the line to look at is their moving average. Draws without
    pyplot: the host's own plots are not disturbed. Raises LazyLoraError where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LazyLoraError("curves are drawn with matplotlib, which is missing; pip install matplotlib") from error
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
    loss_axes, rate_axes = figure.subplots(2, 1, sharex=True)
    shown = list(measurements)
    _draw_losses(loss_axes, shown)
    _draw_rates(rate_axes, shown)
    _draw_spikes(rate_axes, spikes)
    for axes in (loss_axes, rate_axes):
        _draw_epochs(axes, shown)
        _add_legend(axes)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return Image.open(buffer).convert("RGB")


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and up to `window` - 1 before it; values that are no numbers are passed over."""
    averages, recent, total = [], [], 0.0
    for value in values:
        recent.append(value if math.isfinite(value) else None)
        total += recent[-1] or 0.0
        if len(recent) > window:
            total -= recent.pop(0) or 0.0
        count = sum(each is not None for each in recent)
        averages.append(total / count if count else math.nan)
    return averages


def smoothing_window(steps: int) -> int:
    """How many steps the loss is averaged over: a twentieth of the run, 5 to 200."""
    return min(200, max(5, steps // 20))


def thinned(measurements: Sequence[Measurement], most: int = _SHOWN_POINTS) -> list[Measurement]:
    """At most about `most` of the measurements, evenly spread, the last one among them."""
    stride = max(1, math.ceil(len(measurements) / most))
    kept = list(measurements[::stride])
    if measurements and kept[-1] is not measurements[-1]:
        kept.append(measurements[-1])
    return kept


def _draw_losses(axes: Axes, shown: Sequence[Measurement]) -> None:
    steps, losses = [each.step for each in shown], [each.loss for each in shown]
    window = smoothing_window(len(shown))
    axes.plot(steps, losses, color=_COLOURS[0], alpha=0.25, linewidth=0.8)
    axes.plot(steps, moving_average(losses, window), color=_COLOURS[0], linewidth=1.8, label=f"mean of {window} steps")
    axes.set_ylabel("loss")


def _draw_rates(axes: Axes, shown: Sequence[Measurement]) -> None:
    steps = [each.step for each in shown]
    groups = list(shown[-1].lr) if shown else []
    first_of = {_component(group): group for group in reversed(groups)}
    colour_of = dict(zip(dict.fromkeys(map(_component, groups)), cycle(_COLOURS)))
    for group in groups:
        is_first = first_of[_component(group)] == group
        axes.plot(
            steps,
            [each.lr.get(group, math.nan) for each in shown],
            color=colour_of[_component(group)],
            linewidth=1.8 if is_first else 0.9,
            label=group.replace(" x", " ×") if is_first or len(groups) <= _MOST_NAMES else None,
        )
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.set_ylabel("d·lr" if any(each.d is not None for each in shown) else "learning rate")
    axes.set_xlabel("step")


def _component(group: str) -> str:
    """`unet` of `unet x0.5`, blocks that learn at half its rate: they are drawn alike, and thinner."""
    return group.split(" ", 1)[0]


def _draw_spikes(axes: Axes, spikes: Sequence[Spiked]) -> None:
    for spike in spikes:
        words = f"leap at step {spike.step}, epoch {spike.epoch}"
        axes.axvline(spike.step, color=_SPIKE, linewidth=1.2, linestyle="--", label=words)


def _add_legend(axes: Axes) -> None:
    """Above the curves, where none of them can run through it."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=6, frameon=False, borderaxespad=0)


def _draw_epochs(axes: Axes, shown: Sequence[Measurement]) -> None:
    starts = [after.step for before, after in pairwise(shown) if after.epoch != before.epoch]
    if len(starts) <= 60:  # more would be a wall
        for step in starts:
            axes.axvline(step, color="#9ca3af", linewidth=0.6, alpha=0.6)
