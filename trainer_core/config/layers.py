"""Settings from several places, one over the other: a preset, a recipe, a file, the flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..settings import merged


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings as one; a later layer wins, setting by setting.

    A layer that gives the run's length in epochs also puts aside the steps that an earlier one gave, which would
    overrule it: sd-scripts' files mean 1600 steps where they say nothing."""
    result: dict[str, Any] = {}
    for layer in layers:
        if "max_train_epochs" in layer and "max_train_steps" not in layer:
            result.pop("max_train_steps", None)
        result = merged(result, layer)
    return result
