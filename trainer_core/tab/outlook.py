"""What a run with these settings would be, as the recipe room shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..footprint import in_words
from ..studio import Studio
from ..studio.recipe_room import Outlook, lr_curve
from .markup import facts, hint, notes, rate_curve


def outlook_on(values: Mapping[str, Any], model: str, studio: Studio, measures: bool) -> str:
    """As HTML. measures: with file size and memory, for which the model is needed, unless something trains on it.

    Raises LazyLoraError for what cannot be trained."""
    is_free = studio.status()["state"] == "idle"
    return shown(studio.outlook(values, model, with_memory=measures and is_free))


def shown(outlook: Outlook) -> str:
    """The outlook as HTML: numbers, the schedule as a line, warnings."""
    plan, taken = outlook.plan, outlook.footprint
    said = {
        "pictures": str(len(plan.dataset.examples)),
        "steps an epoch": str(plan.steps_per_epoch),
        "epochs": str(plan.epochs),
        "steps in all": str(plan.total_steps),
    }
    if taken is not None:
        said |= {"a file, about": in_words(taken.file), "memory, about": in_words(taken.memory)}
    curve = hint("The learning rate over the run:") + rate_curve([factor for _, factor in lr_curve(plan)])
    return facts(said) + curve + (notes(plan.warnings, "warning") or hint("Nothing in it is known to go wrong."))
