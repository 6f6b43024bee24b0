"""Stable Diffusion 1.x."""

from __future__ import annotations

from .base import Family

SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1.x",
    architecture="stable-diffusion-v1",
    base_model_version="sd_v1",
    unet_key_layout="diffusers",
    prefixes={"unet": "lora_unet", "te1": "lora_te"},
    resolution=512,
)
