"""A dataset described by a file: sd-scripts' dataset config (TOML or JSON), and kohya's metadata JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config import DatasetConfig
from ..errors import ConfigError, DataError
from ..settings import from_json
from .caption_files import CAPTION_SUFFIXES, decode_caption
from .captions import check_caption_settings
from .folders import Folder, is_picture, listed, listed_names
from .names import named, printable
from .sidecars import caption_of

DATASET_FILE_SUFFIXES = (".toml", ".json")
_MOST_BYTES = 256 << 20  # metadata of a million pictures
_MOST_TOML_BYTES = 1 << 20  # thousands of subsets; tomlkit takes half a minute for them
# what a subset decides for itself, by the kinds of value that it may be
_OWN_KEYS: Mapping[str, tuple[type, ...]] = {
    "image_dir": (str,),
    "num_repeats": (int,),
    "class_tokens": (str,),
    "is_reg": (bool,),
    "caption_extension": (str,),
    "caption_prefix": (str,),
    "caption_suffix": (str,),
    "metadata_file": (str,),
}
# what becomes of a subset's captions, which the file decides, as it does in sd-scripts
_CAPTION_SETTINGS = (
    *("shuffle_caption", "keep_tokens", "keep_tokens_separator", "secondary_separator", "enable_wildcard"),
    *("caption_dropout_rate", "caption_dropout_every_n_epochs", "caption_tag_dropout_rate"),
    *("token_warmup_min", "token_warmup_step"),
)
_SETTINGS = {each.name for each in fields(DatasetConfig)} - {"folder", *_OWN_KEYS, *_CAPTION_SETTINGS}
_SILENT = (False, None, "", 0, [], ",")  # says nothing; the comma is sd-scripts' caption_separator


def described_folders(file: Path, config: DatasetConfig, warnings: list[str]) -> list[Folder]:
    """The folders that a dataset file describes, relative paths from the file's own folder.

    `[general]` < `[[datasets]]` < `[[datasets.subsets]]` of sd-scripts, with image_dir, num_repeats, class_tokens,
    is_reg, caption_extension, caption_prefix, caption_suffix, metadata_file and the settings of shuffling, dropout,
    wildcards and warm-up, each for its subset; or a metadata JSON (`meta_cap.json`, `meta_lat.json`: pictures with
    their captions and tags). All else in the file is a setting of the run, and the run's own win: a warning says which
    differ, for which subsets. Raises DataError for a file that cannot be read or describes no pictures."""
    values = _read(file)
    if file.suffix.lower() == ".json" and "datasets" not in values:
        return [_of_metadata(file, file.parent, values, warnings)]
    subsets = list(_subsets(values, file))
    found = [_of_subset(subset, file, warnings) for subset in subsets]
    if not found:
        raise DataError(f"{named(file)} has no subsets; add [[datasets]] and [[datasets.subsets]] with an image_dir")
    names = [each.name for each in found]
    warnings.extend(_about_settings(list(zip(names, subsets)), file, config))
    return found


def _read(file: Path) -> Mapping[str, Any]:
    is_toml = file.suffix.lower() == ".toml"
    most = _MOST_TOML_BYTES if is_toml else _MOST_BYTES
    try:
        if file.stat().st_size > most:
            raise DataError(f"{named(file)} is larger than {most >> 20} MiB; split it")
        text, _ = decode_caption(file.read_bytes())
    except OSError as error:
        raise DataError(f"{named(file)} cannot be read ({error.strerror}); check its permissions") from error
    try:
        values = _parsed(text, is_toml)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error).split("\n")[0]
        raise DataError(f"{named(file)} cannot be understood ({reason}); correct it there") from None
    if not isinstance(values, Mapping):
        raise DataError(f"{named(file)} describes no dataset; it needs [[datasets]], or pictures with their captions")
    return values


def _parsed(text: str, is_toml: bool) -> Any:
    if not is_toml:
        return json.loads(text)
    try:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError
    except ImportError:
        raise DataError("reading TOML needs the package tomlkit: pip install tomlkit") from None
    try:
        return tomlkit.parse(text).unwrap()
    except TOMLKitError as error:  # a key that stands there twice is none of its ParseErrors
        raise ValueError(str(error)) from None


def _subsets(values: Mapping[str, Any], file: Path) -> Iterator[dict[str, Any]]:
    """Each subset with what its dataset and `[general]` say, the narrower first."""
    general = values.get("general", {})
    for dataset in _tables(values.get("datasets"), file, "datasets"):
        of_dataset = {key: value for key, value in dataset.items() if key != "subsets"}
        for subset in _tables(dataset.get("subsets"), file, "subsets"):
            yield {**(general if isinstance(general, Mapping) else {}), **of_dataset, **subset}


def _tables(values: Any, file: Path, name: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(each, Mapping) for each in values):
        raise DataError(f"{named(file)}: {name} is no list of tables; write [[{name}]] in TOML, a list in JSON")
    return values


def _of_subset(values: Mapping[str, Any], file: Path, warnings: list[str]) -> Folder:
    for key, kinds in _OWN_KEYS.items():
        value = values.get(key)
        if value is not None and (not isinstance(value, kinds) or (kinds == (int,) and isinstance(value, bool))):
            raise DataError(f"{named(file)}: {key} is {value!r}; give it as {kinds[0].__name__}")
    repeats = values.get("num_repeats", 1)
    if repeats < 1:
        raise DataError(f"{named(file)}: num_repeats is {repeats}; give 1 or more, or remove the subset")
    caption_settings = _caption_settings(values, file)
    if values.get("metadata_file"):
        metadata = _within(file, values["metadata_file"])
        folder = _within(file, values["image_dir"]) if values.get("image_dir") else metadata.parent
        found = _of_metadata(metadata, folder, _read(metadata), warnings)
    elif values.get("image_dir"):
        found = _of_folder(_within(file, values["image_dir"]), values.get("caption_extension", ""), file, warnings)
    else:
        raise DataError(f"{named(file)}: a subset has no image_dir; name the folder of its pictures")
    return Folder(
        found.path,
        found.name,
        repeats,
        values.get("class_tokens") or "",
        found.files,
        values.get("is_reg", False),
        found.caption_suffixes,
        found.captions,
        values.get("caption_prefix") or "",
        values.get("caption_suffix") or "",
        caption_settings,
    )


def _caption_settings(values: Mapping[str, Any], file: Path) -> tuple[tuple[str, Any], ...]:
    given = {key: values[key] for key in _CAPTION_SETTINGS if values.get(key) is not None}
    try:
        config = from_json(DatasetConfig, {"folder": str(file), **given})
        check_caption_settings(config)
    except ConfigError as error:
        raise DataError(f"{named(file)}: {error}") from None
    if 0 < config.token_warmup_step < 1:  # of which run, its file cannot say
        raise DataError(
            f"{named(file)}: token_warmup_step is {config.token_warmup_step}, a share of the run; give steps"
        )
    return tuple((key, getattr(config, key)) for key in given)


def _of_folder(path: Path, caption_extension: str, file: Path, warnings: list[str]) -> Folder:
    if not os.path.isdir(path):  # unlike Path.is_dir, also for a name that is too long
        raise DataError(f"{named(file)}: there is no folder {printable(str(path))}; correct image_dir")
    files, subfolders = listed(path)
    if not any(is_picture(name) for name in files):
        inside = f"; the folders inside it need subsets of their own: {subfolders[0].name}" if subfolders else ""
        raise DataError(f"{named(file)}: the folder {printable(str(path))} has no pictures{inside}")
    suffixes = (caption_extension.lower(),) if caption_extension else CAPTION_SUFFIXES
    return Folder(path, printable(path.name), 1, "", files, caption_suffixes=suffixes)


def _of_metadata(file: Path, folder: Path, values: Mapping[str, Any], warnings: list[str]) -> Folder:
    """kohya's metadata: by picture, as its path or its name without suffix, a table with `caption`, `tags` or both."""
    by_stem: dict[str, Path] = {}
    if os.path.isdir(folder):
        by_stem = {os.path.splitext(name)[0]: path for name, path in listed(folder)[0].items() if is_picture(name)}
    files: dict[str, Path] = {}
    captions: dict[Path, str] = {}
    gone: list[str] = []
    for key, entry in sorted(values.items()):
        path = by_stem.get(key) or folder / key
        if "\0" in key or not is_picture(path.name) or not os.path.lexists(path):
            gone.append(key)
        elif not isinstance(entry, Mapping):
            raise DataError(f"{named(file)}: {printable(key)} has no caption or tags; write a table of them")
        else:
            files[str(path)] = path
            captions[path] = caption_of(entry)
    if not files:
        raise DataError(f"{named(file)} names no picture in {printable(str(folder))}; correct the paths in it")
    if gone:
        warnings.append(f"{named(file)} names {listed_names(gone)}, which are not there; they are left out")
    return Folder(folder, printable(file.stem), 1, "", files, captions=captions)


def _within(file: Path, path: str) -> Path:
    if "\0" in path:
        raise DataError(f"{named(file)}: {printable(path)} is no path; correct it")
    return (file.parent / os.path.expanduser(path)).absolute()  # unlike Path's, leaves a ~ of nobody as it is


def _about_settings(
    subsets: Sequence[tuple[str, Mapping[str, Any]]], file: Path, config: DatasetConfig
) -> Iterator[str]:
    """subsets: each with its folder's name."""
    decided = list(_differing(subsets, _CAPTION_SETTINGS, config))
    differing = list(_differing(subsets, sorted(_SETTINGS), config))
    unknown = {
        key
        for _, values in subsets
        for key, value in values.items()
        if key not in {*_SETTINGS, *_CAPTION_SETTINGS, *_OWN_KEYS} and value not in _SILENT
    }
    if decided:
        yield f"{named(file)} decides for its pictures: {', '.join(decided)}"
    if differing:
        said = ", ".join(differing)
        yield f"{named(file)} has {said}, but the settings decide; import the file as a recipe, too, to follow it"
    if unknown:
        yield f"{named(file)}: {listed_names(sorted(unknown))} without effect here"


def _differing(
    subsets: Sequence[tuple[str, Mapping[str, Any]]], keys: Sequence[str], config: DatasetConfig
) -> Iterator[str]:
    """`keep_tokens 2`, or `keep_tokens 2 for cats` where others say otherwise: what is not as in the settings."""
    for key in keys:
        own = getattr(config, key)
        names_of: dict[str, list[str]] = {}
        for name, values in subsets:
            if values.get(key) is not None and _plain(values[key]) != own:
                names_of.setdefault(repr(_plain(values[key])), []).append(name)
        for value, names in names_of.items():
            where = f" for {listed_names(names)}" if len(names) < len(subsets) else ""
            yield f"{key} {printable(value)}{where}"


def _plain(value: Any) -> Any:
    """`[512, 512]` as 512: a resolution may be given as a pair."""
    return value[0] if isinstance(value, list) and len(value) == 2 and value[0] == value[1] else value
