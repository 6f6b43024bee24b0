"""A model family: how its modules are called in files and what the metadata says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """What tells one family of models from another, as far as training and its files are concerned.

    name: "sd1", "sd2" or "sdxl". architecture: modelspec's id. base_model_version: kohya's `ss_base_model_version`.
    unet_key_layout: whose module names the files use, "diffusers" (SD1, SD2) or "ldm" (SDXL).
    prefixes: component → key prefix, e.g. {"unet": "lora_unet", "te1": "lora_te"}.
    resolution: the side that the family was trained at, in pixels.
    has_sizes: whether it takes SDXL's size conditioning."""

    name: str
    title: str
    architecture: str
    base_model_version: str
    unet_key_layout: str
    prefixes: Mapping[str, str]
    resolution: int
    has_sizes: bool = False
