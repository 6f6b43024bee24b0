"""Stable Diffusion XL and its kin (Pony, Illustrious, Segmind-Vega …)."""

from __future__ import annotations

from .base import Family

SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    architecture="stable-diffusion-xl-v1-base",
    base_model_version="sdxl_base_v1-0",
    unet_key_layout="ldm",  # kohya's SDXL files are named after Stability's UNet, its SD1/SD2 files after diffusers'
    prefixes={"unet": "lora_unet", "te1": "lora_te1", "te2": "lora_te2"},
    resolution=1024,
    has_sizes=True,
)
