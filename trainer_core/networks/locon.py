"""LoCon: LoRA on the UNet's convolutional blocks too, kohya's `networks.lora` with conv_dim (LyCORIS `locon`)."""

from __future__ import annotations

from .base import ALGORITHMS
from .low_rank import LowRank


@ALGORITHMS.register("locon", "LoCon", "c3lier")
class LoCon(LowRank):
    """ΔW = alpha/rank · up · down; on k×k convolutions `down` is k×k at conv_rank and `up` is 1×1."""

    reaches_convolutions = True
