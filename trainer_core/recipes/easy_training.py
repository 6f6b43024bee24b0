"""derrian's LoRA_Easy_Training_Scripts: version 5's JSON and Python source, and the TOML of the present program."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ConfigError
from .given import Given, Recipe, is_off, is_unset
from .notation import number, share
from .report import INERT
from .sd_scripts import argument, defaults, read_dataset

# Version 5's attribute → sd-scripts' argument, where they differ.
NAMES = {
    "base_model": "pretrained_model_name_or_path",
    "img_folder": "train_data_dir",
    "reg_img_folder": "reg_data_dir",
    "output_folder": "output_dir",
    "change_output_name": "output_name",
    "net_dim": "network_dim",
    "alpha": "network_alpha",
    "scheduler": "lr_scheduler",
    "cosine_restarts": "lr_scheduler_num_cycles",
    "scheduler_power": "lr_scheduler_power",
    "warmup_lr_ratio": "lr_warmup_steps",
    "batch_size": "train_batch_size",
    "num_epochs": "max_train_epochs",
    "save_at_n_epochs": "save_every_n_epochs",
    "max_steps": "max_train_steps",
    "shuffle_captions": "shuffle_caption",
    "train_resolution": "resolution",
    "buckets": "enable_bucket",
    "min_bucket_resolution": "min_bucket_reso",
    "max_bucket_resolution": "max_bucket_reso",
    "num_workers": "max_data_loader_n_workers",
    "persistent_workers": "persistent_data_loader_workers",
    "test_seed": "seed",
    "gradient_acc_steps": "gradient_accumulation_steps",
    "max_clip_token_length": "max_token_length",
    "save_as": "save_model_as",
    "log_dir": "logging_dir",
    "no_meta": "no_metadata",
    "use_lion": "use_lion_optimizer",
    "lora_model_for_resume": "network_weights",
    "unet_only": "network_train_unet_only",
    "text_only": "network_train_text_encoder_only",
    "warmup_ratio": "lr_warmup_steps",
}
# What steers that program itself, and where the same is here.
CONTROLS = {
    "save_json_folder": "python -m trainer_core export writes the settings",
    "save_json_name": "python -m trainer_core export writes the settings",
    "save_json_only": "python -m trainer_core export writes settings without training",
    "load_json_path": "--config, or import, reads a file",
    "json_load_skip_list": "import --skip leaves keys out",
    "multi_run_folder": "python -m trainer_core queue runs a folder of settings",
    "list_of_json_to_run": "python -m trainer_core queue runs a folder of settings",
    "tag_occurrence_txt_file": "the tags' counts are in every LoRA's metadata",
    "tag_occurrence": "the tags' counts are in every LoRA's metadata",
    "tag_file_location": "the tags' counts are in every LoRA's metadata",
    "sort_tag_occurrence_alphabetically": "the tags' counts are in every LoRA's metadata",
    "save_toml": "every run's folder holds its settings",
    "save_toml_location": "every run's folder holds its settings",
    "easy_name": "stands for ${replace} in that program's names",
    "train_mode": "a LoRA is what is trained",
    "name": "the subset's name in that program",
}
# Version 5 without a word on it; the present program always says these.
_DEFAULTS = {
    "network_module": "networks.lora",
    "network_dim": 32,
    "network_alpha": 16,
    "optimizer_type": "AdamW8bit",
    "lr_scheduler": "cosine",
}
_OLD_LOCON = {"locon_dim": "conv_dim", "locon_alpha": "conv_alpha"}
_SECTIONS = ("args", "dataset_args")


def read_attributes(values: Mapping[str, Any], source: str) -> Recipe:
    """Version 5's settings by attribute name, from its JSON or its Python source."""
    givens = [given for key, value in values.items() for given in _attribute(key, value, values)]
    missing = defaults(_old_defaults(values), givens, "that program")
    return Recipe(source, (*givens, *missing))


def read_toml(values: Mapping[str, Any]) -> Recipe:
    """The present program's TOML: `[section.args]`, `[section.dataset_args]` and `[[subsets]]`."""
    name = str(_at(values, "saving_args", "args", "easy_name") or "")
    flat: dict[str, Any] = {}
    for section, parts in values.items():
        for part in _SECTIONS:
            flat |= parts.get(part) or {} if isinstance(parts, Mapping) else {}
        if isinstance(parts, Mapping) and not set(parts) & set(_SECTIONS):
            flat |= parts if section != "train_mode" else {"train_mode": parts.get("train_mode")}
    givens = [
        given for key, value in flat.items() for given in _attribute(key, _filled_in(value, name), flat, is_new=True)
    ]
    pictures = read_dataset({"datasets": [{"subsets": values.get("subsets", [])}]}) if values.get("subsets") else None
    said = {given.argument for given in givens}
    subsets = [
        replace(given, verdict=INERT, why=CONTROLS["name"]) if given.argument == "name" else given
        for given in (pictures.givens if pictures else ())
        if given.argument not in said or not given.key.startswith("(")
    ]
    return Recipe("easy-training TOML", (*givens, *subsets))


def read_source(text: str) -> Recipe:
    """Version 5's `ArgsList.py`, or lines of it quoted in a guide: `self.name: type = literal`. Nothing is executed.

    Raises ConfigError where there is no such line."""
    blocks = [block for block in _assignments(text.lstrip("\ufeff")) if block]
    if not blocks:
        raise ConfigError("there is no line self.name = value in this Python file; give version 5's ArgsList.py")
    recipe = read_attributes(blocks[0], "easy-training Python source")
    if len(blocks) == 1:
        return recipe
    others = "the text quotes settings in several places: this is the first; not taken were " + ", ".join(
        f"{key} = {value}" for block in blocks[1:] for key, value in block.items()
    )
    return replace(recipe, warnings=(others,))


def _assignments(text: str) -> Iterator[dict[str, Any]]:
    try:
        body = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield from _quoted(text)
        return
    ordered = sorted((node for node in body if isinstance(node, ast.stmt)), key=lambda node: node.lineno)
    yield dict(pair for pair in map(_attribute_and_value, ordered) if pair)


def _quoted(text: str) -> Iterator[dict[str, Any]]:
    """Blocks of assignments between lines of prose."""
    block: dict[str, Any] = {}
    for line in text.splitlines():
        pair = _line(line)
        if pair:
            block[pair[0]] = pair[1]
        elif line.strip() and not line.strip().startswith("#"):
            yield block
            block = {}
    yield block


def _line(line: str) -> tuple[str, Any] | None:
    if not line.strip().startswith("self."):
        return None
    try:
        statements = ast.parse(textwrap.dedent(line).strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return _attribute_and_value(statements[0]) if statements else None


def _attribute_and_value(node: ast.stmt) -> tuple[str, Any] | None:
    target = node.target if isinstance(node, ast.AnnAssign) else None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    value = getattr(node, "value", None)
    if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"):
        return None
    if not isinstance(value, ast.expr):
        return None
    try:
        return target.attr, ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return target.attr, ast.unparse(value)  # no literal: shown, and found to be no value of its setting


def _attribute(key: str, value: Any, values: Mapping[str, Any], is_new: bool = False) -> Iterator[Given]:
    if key in CONTROLS:
        yield Given(key, value, key, value, CONTROLS[key], INERT)
    elif key in ("warmup_lr_ratio", "warmup_ratio"):
        yield _ratio(key, value)
    elif key == "height_resolution" or (key == "train_resolution" and not is_off(values.get("height_resolution"))):
        yield _two_sided(key, value, values)
    elif key == "optimizer_args" and str(values.get("optimizer_type")) == "DAdaptation" and isinstance(value, Mapping):
        decoupled = {**value, "decouple": value.get("decouple", True)}
        yield Given(key, value, key, decoupled, "that program adds decouple=True to DAdaptation")
    elif key == "num_epochs" and not is_off(values.get("max_steps")):
        yield Given(key, value, "(num_epochs)", value, "max_steps overrules it", INERT)
    elif key in _OLD_LOCON:
        shown = "network_args." + _OLD_LOCON[key]
        yield Given(key, value, shown, None if is_off(value) else value)
    elif key in ("lyco", "locon"):
        yield Given(key, value, key, value, "seen in the adapter that is chosen", INERT)
    elif key == "network_module":
        yield Given(key, value, key, "lycoris.kohya" if not is_off(values.get("lyco")) else value)
    elif key == "fa":
        verdict, why = (INERT, "off") if is_off(value) else ("unsupported", "LoRA-FA cannot be trained")
        yield Given(key, value, key, value, why, verdict)
    elif key == "network_args" and is_new and isinstance(value, Mapping):
        lycoris = {"network_module": "lycoris.kohya" if "algo" in value else "networks.lora"}
        yield Given("(network_module)", lycoris["network_module"], "network_module", lycoris["network_module"])
        yield from argument(key, value)
    else:
        yield from argument(NAMES.get(key, key), value, key)


def _ratio(key: str, value: Any) -> Given:
    ratio = number(value)
    if not isinstance(ratio, (int, float)) or isinstance(ratio, bool):
        return Given(key, value, "lr_warmup_steps", None)
    return Given(key, value, "lr_warmup_steps", share(ratio), "a share of the run")


def _two_sided(key: str, value: Any, values: Mapping[str, Any]) -> Given:
    if key == "height_resolution":
        return Given(key, value, "(height_resolution)", value, "read with train_resolution" if value else "off", INERT)
    return Given(key, value, "resolution", [value, values["height_resolution"]])


def _old_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    if not is_off(values.get("use_lion")):
        return {**_DEFAULTS, "optimizer_type": "Lion"}
    return _DEFAULTS


def _filled_in(value: Any, name: str) -> Any:
    return value.replace("${replace}", name) if isinstance(value, str) else value


def _at(values: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        found = values.get(key)
        if len(keys) == 1 or not isinstance(found, Mapping):
            return None if is_unset(found) else found
        values, keys = found, keys[1:]
    return None
