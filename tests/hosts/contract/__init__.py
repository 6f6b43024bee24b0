"""What ComfyHost promises, as checks that run inside ComfyUI: a file a theme, every check filed in `CHECKS`."""

from __future__ import annotations

from . import adapters, described, equal, given_back, gradients, previews, refused, runs
from .loaded import TEXT_LAYERS
from .registry import CHECKS, kind_of, run_check

__all__ = [
    "CHECKS",
    "TEXT_LAYERS",
    "adapters",
    "described",
    "equal",
    "given_back",
    "gradients",
    "kind_of",
    "previews",
    "refused",
    "run_check",
    "runs",
]
