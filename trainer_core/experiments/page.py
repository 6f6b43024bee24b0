"""docs/experiments.md: every claim with its verdict, its numbers and a plot."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import mean, pstdev
from typing import TYPE_CHECKING

from .claims import Claim, Results, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = Path("images") / "experiments"

_INTRODUCTION = """\
# The guides' claims, tried

What the five guides say about training, tried on the [tiny world](../trainer_core/demo/world/README.md): a character
that the model has never seen, sixteen captioned pictures, five epochs of 64 steps unless a claim needs another length,
batch 4. Every arm was trained with {seeds} seeds; numbers are mean ± standard deviation over seeds.

*Score* is likeness × obedience − ½ bleed of an arm's best epoch: is it the character, is the rest what the prompt asked
for, and what became of prompts that do not ask for it (0 to 1, see `trainer_core/demo/metrics.py`).

This is a finding, not a promise: one tiny model, one character, settings near the demo's. A claim that does not show
here may hold on Stable Diffusion; one that does show is at least not a matter of Stable Diffusion. How each verdict is
read off the numbers stands in `trainer_core/experiments/claims.py`, and was fixed before the trainings ran; only *Small
adapters suffice* looked at sizes alone at first, and called (IA)³ sufficient, which its pictures are not.

D-Adaptation's arms warm up over a tenth of the run and take half the rate, which the guides give velocity models like
this one: in a first series at rate 1 without warm-up every one of them broke the model within an epoch, whatever else
was set, so that nothing could be read off them. That, too, is a finding.

Generated on {day}: `python -m trainer_core experiments`.
"""


def write_page(results: Sequence[tuple[Claim, Results]], docs: Path) -> Path:
    """Write experiments.md and its plots below `docs`; gives the page's path."""
    judged = [(claim, found, claim.judge(found)) for claim, found in results]
    (docs / PICTURES).mkdir(parents=True, exist_ok=True)
    for claim, found, _ in judged:
        if found:
            _plot(found, docs / PICTURES / f"{_slug(claim)}.png")
    seeds = max((len(trials) for _, found, _ in judged for trials in found.values()), default=0)
    parts = [
        _INTRODUCTION.format(seeds=seeds, day=date.today().isoformat()),
        _overview([(claim, verdict) for claim, _, verdict in judged]),
        *(_section(claim, found, verdict) for claim, found, verdict in judged if found),
    ]
    page = docs / "experiments.md"
    page.write_text("\n".join(parts), encoding="utf-8", newline="\n")
    return page


def _overview(judged: Sequence[tuple[Claim, Verdict]]) -> str:
    rows = [
        f"| [{claim.name}](#{_slug(claim)}) | {claim.guide} | {verdict.word} | {verdict.because} |"
        if claim.arms
        else f"| {claim.name} | {claim.guide} | {verdict.word} | {verdict.because} |"
        for claim, verdict in judged
    ]
    return "\n".join(["| Claim | Guide | Here | Numbers |", "|---|---|---|---|", *rows, ""])


def _section(claim: Claim, results: Results, verdict: Verdict) -> str:
    head = [
        "| Arm | Score | Likeness | Obedience | Bleed | Best epoch | d | File |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [_row(arm, results) for arm in results]
    return "\n".join(
        [
            f"## {claim.name}\n",
            f"*{claim.guide}:* {claim.says}\n",
            f"**{verdict.word.capitalize()}.** {verdict.because}.\n",
            *head,
            *rows,
            f"\n![Score by epoch, and d·lr by step]({(PICTURES / _slug(claim)).as_posix()}.png)\n",
        ]
    )


def _row(arm: str, results: Results) -> str:
    trials = [trial for trial in results[arm] if trial.epochs]
    if not trials:
        return f"| {arm} | no epoch was reached | | | | | | |"
    best = [trial.best for trial in trials]
    learned = [trial.d for trial in trials if trial.d is not None]
    cells = [
        arm,
        _spread([scores.total for scores in best]),
        _spread([scores.likeness for scores in best]),
        _spread([scores.obedience for scores in best]),
        _spread([scores.bleed for scores in best]),
        ", ".join(str(trial.epochs.index(trial.best) + 1) for trial in trials),
        f"{mean(learned):.2g}" if learned else "–",
        f"{trials[0].file_bytes / 1024:.0f} KB",
    ]
    return f"| {' | '.join(cells)} |"


def _plot(results: Results, path: Path) -> None:
    """Left: score by epoch, mean and spread over seeds. Right: d · lr by step, a line a seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(9, 3.2), dpi=90, layout="constrained")
    scores, rates = figure.subplots(1, 2)
    for number, arm in enumerate(results):
        _plot_arm(scores, rates, results, arm, f"C{number}")
    scores.set(xlabel="epoch", ylabel="score", ylim=(-0.1, 1))
    rates.set(xlabel="step", ylabel="d·lr", yscale="log")
    scores.xaxis.get_major_locator().set_params(integer=True)
    scores.legend(frameon=False, fontsize=8)
    for axes in (scores, rates):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_png(drawn)
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)


def _plot_arm(scores: Axes, rates: Axes, results: Results, arm: str, colour: str) -> None:
    trials = [trial for trial in results[arm] if trial.epochs]
    epochs = min((len(trial.epochs) for trial in trials), default=0)
    columns = [[trial.epochs[i].total for trial in trials] for i in range(epochs)]
    middle = [mean(column) for column in columns]
    spread = [pstdev(column) for column in columns]
    numbers = range(1, epochs + 1)
    scores.plot(numbers, middle, color=colour, marker="o", markersize=3, label=arm)
    scores.fill_between(
        numbers,
        [m - s for m, s in zip(middle, spread)],
        [m + s for m, s in zip(middle, spread)],
        color=colour,
        alpha=0.15,
    )
    for trial in results[arm]:
        shown = [(step, rate) for step, rate in trial.rates if rate > 0]
        rates.plot([step for step, _ in shown], [rate for _, rate in shown], color=colour, linewidth=1, alpha=0.7)


def _slug(claim: Claim) -> str:
    """The heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", claim.name.lower()).replace(" ", "-")


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {pstdev(values):.2f}"
