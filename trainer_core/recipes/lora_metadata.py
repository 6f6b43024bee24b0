"""The recipe inside a LoRA file: the `ss_*` metadata that sd-scripts and its descendants write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .given import Given, Recipe, is_unset
from .notation import NotTaken, pairs
from .report import INERT, UNSUPPORTED
from .sd_scripts import network_argument

LARGEST_HEADER = 16 * 1024 * 1024
_SHOWN_CHARACTERS = 200

_NAMES = {
    "ss_optimizer": "optimizer_type",
    "ss_batch_size_per_device": "train_batch_size",
    "ss_num_epochs": "max_train_epochs",
    "ss_debiased_estimation": "debiased_estimation_loss",
    "ss_sd_model_name": "pretrained_model_name_or_path",
}
# What a file tells of its making that nobody sets.
_FACTS = re.compile(
    r"ss_(session_id|training_(started|finished)_at|num_\w+|epoch|steps|total_batch_size|sd_model_hash|vae_\w+"
    r"|new_\w+|sd_scripts_commit_hash|bucket_info|(reg_)?dataset_dirs|tag_frequency|datasets|base_model_version"
    r"|max_train_steps|validation_\w+|max_validation_steps|validate_\w+|lowram|face_crop_aug_range)$"
)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file; of the file no more than its header is read.

    Raises ConfigError for another kind of file and for a header above 16 MiB."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= LARGEST_HEADER:
                raise ConfigError(f"{path.name}: is no LoRA file, or its header is larger than 16 MiB")
            header = json.loads(file.read(size))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path.name}: is no .safetensors file, or is damaged; take another") from None
    found = header.get("__metadata__") if isinstance(header, dict) else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def read_lora(metadata: Mapping[str, str]) -> Recipe:
    """The recipe in kohya's `ss_*` entries. Raises ConfigError where there are none."""
    if not any(key.startswith("ss_") for key in metadata):
        raise ConfigError("it does not say how it was trained (no ss_ metadata); take another LoRA")
    givens = [given for key, value in metadata.items() for given in _entry(key, value)]
    version = metadata.get("ss_base_model_version", "")
    warnings = (f"trained on {version}",) if not is_unset(version) else ()
    return Recipe("LoRA metadata", tuple(givens), warnings)


def _entry(key: str, value: str) -> Iterator[Given]:
    shown = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
    if not key.startswith("ss_"):
        yield Given(key, shown, key, value, "not about the training", INERT)
    elif key == "ss_num_epochs":
        yield Given(key, shown, "max_train_epochs", value)
    elif _FACTS.fullmatch(key):
        yield Given(key, shown, key, value, "what came out, not what was set", INERT)
    elif is_unset(value):
        yield Given(key, shown, key, None)
    elif key == "ss_optimizer":
        yield from _optimizer(value)
    elif key == "ss_network_args":
        yield from _network_arguments(value)
    else:
        argument = _NAMES.get(key, key.removeprefix("ss_"))
        yield Given(key, shown, argument, value)


def _optimizer(value: str) -> Iterator[Given]:
    """`prodigyopt.prodigy.Prodigy(weight_decay=0.01,betas=(0.9, 0.99))` is a class and its arguments."""
    name, bracket, arguments = value.partition("(")
    yield Given("ss_optimizer", value, "optimizer_type", name, "its class and its arguments" if bracket else "")
    if arguments.rstrip(")").strip():
        inner = arguments[:-1] if arguments.endswith(")") else arguments
        listed = re.split(r",(?=\s*[A-Za-z_]\w*\s*=)", inner)
        yield Given("ss_optimizer (arguments)", inner, "optimizer_args", [each.strip() for each in listed])


def _network_arguments(value: str) -> Iterator[Given]:
    try:
        found: Mapping[str, Any] = json.loads(value)
        named = pairs(found)
    except (ValueError, RecursionError, NotTaken):
        yield Given("ss_network_args", value, "network_args", value, "cannot be read", UNSUPPORTED)
        return
    for name, each in named.items():
        yield network_argument(name, None if str(each) == "None" else each, f"ss_network_args.{name}")
