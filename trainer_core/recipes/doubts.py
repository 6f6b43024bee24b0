"""What a recipe's author may not have meant, or got only because of how that trainer was: said with the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_ONE_RATE_ONLY = re.compile(r"dadapt|prodigy", re.IGNORECASE)


def doubts(settings: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each. settings: ours by dotted path."""
    yield from _about_unequal_rates(settings)
    yield from _about_t_max(settings)


def _about_unequal_rates(settings: Mapping[str, Any]) -> Iterator[str]:
    common = settings.get("optimizer.learning_rate")
    unet = settings.get("optimizer.unet_lr", common)
    text = settings.get("optimizer.text_encoder_lr", common)
    if unet and text and unet != text and _ONE_RATE_ONLY.search(str(settings.get("optimizer.optimizer", ""))):
        yield (
            f"kohya's {settings['optimizer.optimizer']} refuses unequal rates, or trained all at the text encoder's "
            f"{text:g}; here it learns at {text:g} beside the UNet's {unet:g}. lr_groups=legacy_single does as then"
        )


def _about_t_max(settings: Mapping[str, Any]) -> Iterator[str]:
    length = re.search(r"\bT_max=(\d+)", str(settings.get("optimizer.lr_scheduler_args", "")))
    if length:
        yield (
            f"T_max={length[1]} counts optimizer steps, not epochs: after them the rate climbs again; "
            "T_max=total is half a wave over the whole run"
        )
