"""LoRA on attention and feed-forward layers, kohya's `networks.lora`."""

from __future__ import annotations

from .base import ALGORITHMS
from .low_rank import LowRank


@ALGORITHMS.register("lora", "LoRA")
class Lora(LowRank):
    """ΔW = alpha/rank · up · down on every attention and feed-forward layer."""
