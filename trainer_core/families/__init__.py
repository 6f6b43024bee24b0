"""Model families: a value each, not a class tree."""

from __future__ import annotations

from ..registry import Registry
from .base import Family
from .sd1 import SD1
from .sd2 import SD2
from .sdxl import SDXL

FAMILIES: Registry[Family] = Registry("model family")
for _family in (SD1, SD2, SDXL):
    FAMILIES.register(_family.name)(_family)

__all__ = ["FAMILIES", "SD1", "SD2", "SDXL", "Family"]
