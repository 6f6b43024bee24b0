"""What a host promises, as checks that run inside a real one: a file a theme, every check filed in `CHECKS`."""

from __future__ import annotations

from . import (
    a1111_borrowing,
    a1111_only,
    adapters,
    described,
    equal,
    forge_adapters,
    forge_only,
    given_back,
    gradients,
    previews,
    refused,
    runs,
)
from .loaded import TEXT_LAYERS, use
from .registry import CHECKS, checks_in, kind_of, run_check

__all__ = [
    "CHECKS",
    "TEXT_LAYERS",
    "a1111_borrowing",
    "a1111_only",
    "adapters",
    "checks_in",
    "described",
    "equal",
    "forge_adapters",
    "forge_only",
    "given_back",
    "gradients",
    "kind_of",
    "previews",
    "refused",
    "run_check",
    "runs",
    "use",
]
