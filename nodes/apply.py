"""A LoRA onto MODEL and CLIP, in the one way that LoraLoader has, so that pictures are the same bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.sd
from torch import Tensor


def with_lora(
    model: Any, clip: Any, state_dict: Mapping[str, Tensor], strength_model: float, strength_clip: float
) -> tuple[Any, Any]:
    """MODEL and CLIP with the LoRA; the given ones where both strengths are 0, as LoraLoader has it."""
    if strength_model == 0 and strength_clip == 0:
        return model, clip
    return comfy.sd.load_lora_for_models(model, clip, dict(state_dict), strength_model, strength_clip)
