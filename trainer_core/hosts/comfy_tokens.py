"""How long a caption is to the text encoder of a CLIP that ComfyUI has loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def token_counter(clip: Any) -> Callable[[str], int] | None:
    """Counts a caption's tokens without begin and end marks; None for a CLIP that is no Stable Diffusion's.

    The text is counted as it stands, as training reads it: brackets are no weights."""
    found = (getattr(clip.tokenizer, name, None) for name in ("clip_h", "clip_l"))
    tokenizer = next((each for each in found if each is not None), None)
    if tokenizer is None:
        return None

    def count(caption: str) -> int:
        literal = caption.replace("\\(", "(").replace("\\)", ")")
        return max(0, len(tokenizer.tokenizer(literal, verbose=False)["input_ids"]) - 2)

    return count
