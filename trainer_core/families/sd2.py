"""Stable Diffusion 2.x; the 768 models predict velocity, which the files' metadata says as well."""

from __future__ import annotations

from .base import Family

SD2 = Family(
    name="sd2",
    title="Stable Diffusion 2.x",
    architecture="stable-diffusion-v2-512",
    base_model_version="sd_v2",
    unet_key_layout="diffusers",
    prefixes={"unet": "lora_unet", "te1": "lora_te"},
    resolution=512,
)
