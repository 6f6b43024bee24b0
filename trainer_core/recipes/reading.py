"""A file or a text of any trainer as our settings: which format it is in, and who reads that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files.metadata import SETTINGS_KEY
from ..settings import merged
from .arguments import rule_for
from .easy_training import CONTROLS, NAMES, read_attributes, read_source
from .easy_training import read_toml as read_easy_toml
from .given import Recipe
from .kohya_gui import is_gui_key, read_gui
from .lenient_json import parse_json_object
from .lora_metadata import read_lora, read_metadata
from .own import RESIDUE, is_own, read_own
from .report import Assignments, ImportReport, flattened
from .sd_scripts import read_config, read_dataset
from .translating import translate

LARGEST_TEXT = 4 * 1024 * 1024


def import_file(path: str | Path, skip: Collection[str] = ()) -> ImportReport:
    """The recipe in a file: kohya GUI JSON, sd-scripts TOML, its dataset files, easy-training's JSON, TOML or Python
    source, our own settings, a guide that quotes one of these, or any LoRA with metadata. Nothing in it is executed.

    Raises ConfigError where the file cannot be read or is none of them."""
    file = Path(path).expanduser()
    if file.suffix.lower() == ".safetensors":
        return _of_lora(file, skip)
    try:
        if file.stat().st_size > LARGEST_TEXT:
            raise ConfigError(f"{file.name}: is larger than 4 MiB, which no settings file is; check the path")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file.name}: is no text in UTF-8; save it as that") from None
    try:
        return import_text(text, skip)
    except ConfigError as error:
        raise ConfigError(f"{file.name}: {error}") from None


def import_text(text: str, skip: Collection[str] = ()) -> ImportReport:
    """The recipe in a text, by what it looks like; see import_file. Raises ConfigError where it is none."""
    if len(text) > LARGEST_TEXT:
        raise ConfigError("the text is longer than 4 MiB, which no settings are; give the settings alone")
    if _looks_like_source(text):
        return translate(read_source(text), skip)
    if _looks_like_toml(text):
        return _of_toml(_toml(text), skip)
    values, forgiven = parse_json_object(text)
    report = _of_json(values, skip)
    return replace(report, warnings=(*forgiven, *report.warnings))


def _of_lora(file: Path, skip: Collection[str]) -> ImportReport:
    metadata = read_metadata(file)
    if SETTINGS_KEY in metadata:  # one of ours, which says all that kohya's words do, and more
        report = read_own(parse_json_object(metadata[SETTINGS_KEY])[0], skip)
        return replace(report, source="LoRA trained by LazyLoRA", model="")
    try:
        return translate(read_lora(metadata), skip)
    except ConfigError as error:
        raise ConfigError(f"{file.name}: {error}") from None


def _of_json(values: Mapping[str, Any], skip: Collection[str]) -> ImportReport:
    if is_own(values):
        return read_own(values, skip)
    if isinstance(values.get("datasets"), list):
        return translate(read_dataset(values), skip)
    plain, residue = _without_residue(values)
    return _with_residue(translate(_flat_json(plain, residue is not None), skip), residue, skip)


def _of_toml(values: Mapping[str, Any], skip: Collection[str]) -> ImportReport:
    if isinstance(values.get("datasets"), list):
        return translate(read_dataset(values), skip)
    if any(isinstance(each, Mapping) and {"args", "dataset_args"} & set(each) for each in values.values()):
        return translate(read_easy_toml(values), skip)
    plain, residue = _without_residue(values)
    recipe = replace(read_config(plain), is_complete=residue is not None)
    return _with_residue(translate(recipe, skip), residue, skip)


def _flat_json(values: Mapping[str, Any], is_ours: bool) -> Recipe:
    easy = sum(key in NAMES or key in CONTROLS for key in values)
    gui = sum(is_gui_key(key) for key in values)
    kohya = sum(rule_for(key) is not None for key in values)
    if not (easy + gui + kohya or is_ours):
        raise ConfigError("none of its keys belongs to a trainer that we know; give a settings file")
    if easy > gui:
        return read_attributes(values, "easy-training JSON")
    recipe = read_gui(values)
    return replace(recipe, is_complete=is_ours)


def _without_residue(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    residue = values.get(RESIDUE)
    plain = {key: value for key, value in values.items() if key != RESIDUE}
    return (plain, dict(residue)) if isinstance(residue, Mapping) else (dict(values), None)


def _with_residue(report: ImportReport, residue: dict[str, Any] | None, skip: Collection[str]) -> ImportReport:
    if residue is None:
        return report
    rest = read_own(Assignments(flattened(residue)).nested(), skip)
    values = merged(report.values, rest.values)
    return replace(report, values=values, entries=(*report.entries, *rest.entries))


def _toml(text: str) -> dict[str, Any]:
    try:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError
    except ImportError:
        raise ConfigError("reading TOML needs the package tomlkit: pip install tomlkit") from None
    try:
        return tomlkit.parse(text.lstrip("\ufeff")).unwrap()
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ConfigError(f"is not valid TOML ({error}); correct it there") from None


def _looks_like_source(text: str) -> bool:
    return any(line.lstrip().startswith("self.") and "=" in line for line in text.splitlines())


def _looks_like_toml(text: str) -> bool:
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first.startswith("["):
        return True
    key, equals, _ = first.partition("=")
    return bool(equals) and key.strip().replace("_", "").isalnum()
