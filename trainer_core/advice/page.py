"""docs/warnings.md, derived from the warnings themselves."""

from __future__ import annotations

from collections.abc import Iterator

from . import WARNINGS
from .base import GUIDES, Advice
from .inert import TABLE

_INTRODUCTION = """\
# Warnings before training

What is said before a run begins, each in one sentence with the setting and the cure. Nothing is forbidden here: what
cannot work is an error; a warning is for what has gone wrong for somebody, or does nothing. The numbers are those of
the five guides that this project began with:
"""
_AFTERWARDS = """\
## Said while it trains

A loss that is not a number is named with its pictures and left out, and ends the run when it comes five times in a row;
guide 1's NaN is this. A leap of d·lr ([`on_spike`](settings.md), guide 4) is named with its step and epoch.

## Not warned about, on purpose
"""
_NOT_WARNED_ABOUT = {
    "Cosine slows down with more than 2 accumulated batches, and checkpointing disables accumulation (4)": (
        "Schedules count optimizer steps here, and both together give the gradient of the large batch."
    ),
    "The text encoder at 0.5 and the UNet at 1 (1, 2)": (
        "Each group's rate is a true factor here; the packages refuse it, and older ones took 0.5 for both."
    ),
    "decouple separates the two rates (1)": (
        "It does not; it decays as AdamW does. `decay-without-decouple` says where it is missing."
    ),
    "A constant schedule is not good (0, 2), is the one to take (1)": (
        "They contradict each other, and either may fit."
    ),
    "768 px is not worth it (0, 3)": "It is a matter of the subject; only at full rate does it go wrong (2).",
    "D-Adaptation is slower and needs more memory (1)": "[Benchmarks](benchmarks.md) have the numbers.",
    "A LoRA of a stylised base brings its style along, 2.x models do not transfer (2)": (
        "It cannot be seen from the settings."
    ),
}


def warnings_page() -> str:
    """The whole page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield from (f"- **{number}** {title}" for number, title in GUIDES.items())
    yield "\nThis page is generated: `python -m trainer_core.docs_table`.\n"
    yield "| Warning | Looks at | When, and why | Source |\n|---|---|---|---|"
    yield from (_row(entry) for _, entry in WARNINGS)
    yield "\n## Settings without effect\n\n| Setting | Does nothing |\n|---|---|"
    yield from (f"| `{entry.setting}` | {_generally(entry.why)} |" for entry in TABLE)
    yield "\n" + _AFTERWARDS
    yield "| What the guides say | Why nothing is said |\n|---|---|"
    yield from (f"| {claim} | {reason} |" for claim, reason in _NOT_WARNED_ABOUT.items())


def _row(entry: Advice) -> str:
    looked_at = ", ".join(f"`{setting}`" for setting in entry.looks_at) if len(entry.looks_at) < 6 else "see below"
    return f"| {entry.name} | {looked_at} | {entry.when} | {entry.source} |"


def _generally(why: str) -> str:
    """The words for whatever was chosen."""
    return why.format(algo="other algorithms", optimizer="other optimizers", lr_scheduler="other schedules")
