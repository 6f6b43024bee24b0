"""What is trained: the adapter."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting


@dataclass(frozen=True)
class NetworkConfig:
    """What is trained: the adapter, its size and which parts of the model it is put on."""

    algo: str = setting("lora", help="The adapter: lora (attention and feed-forward) or locon (convolutions too).")
    rank: int = setting(16, help="Size of the adapter (kohya: network_dim).", ge=1, le=1024)
    alpha: float = setting(16.0, help="Strength is alpha / rank; equal to rank means 1.", ge=0)
    conv_rank: int | None = setting(None, help="LoCon: rank on convolutions; as `rank` when left out.", ge=1, le=1024)
    conv_alpha: float | None = setting(None, help="LoCon: alpha on convolutions; as `alpha` when left out.", ge=0)
    dropout: float = setting(0.0, help="Share of the adapter's inner values dropped in a step.", ge=0, le=0.95)
    train_unet: bool = setting(True, help="Put adapters on the UNet.")
    train_text_encoder: bool = setting(True, help="Put adapters on the text encoder(s).")
