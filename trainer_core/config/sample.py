"""The preview pictures."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting


@dataclass(frozen=True)
class SampleConfig:
    """Preview pictures, made by the host's own sampler while training."""

    prompts: tuple[str, ...] = setting((), help="One preview picture each; none means no previews.")
    negative_prompt: str = setting("", help="Negative prompt of the previews.")
    every_n_epochs: int = setting(1, help="Epochs between previews.", ge=1)
    steps: int = setting(20, help="Sampling steps of a preview.", ge=1, le=150)
    cfg: float = setting(7.0, help="Classifier-free guidance of a preview.", ge=1, le=30)
    width: int | None = setting(None, help="Preview width; the training resolution when left out.", ge=64, unit="px")
    height: int | None = setting(None, help="Preview height; the training resolution when left out.", ge=64, unit="px")
    seed: int = setting(42, help="Seed of the previews, the same every epoch so that they compare.", ge=0)
