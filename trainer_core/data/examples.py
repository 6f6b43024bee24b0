"""A folder of pictures, or a file that describes some, as examples to train on, and all that is odd in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import DatasetConfig
from ..errors import DataError
from .buckets import Size, check_bucket_settings, why_too_small
from .caption_files import CaptionIndex, is_plain_caption, read_caption
from .captions import parse_tags
from .dataset_files import DATASET_FILE_SUFFIXES, described_folders
from .folders import Folder, is_foreign, is_picture, listed_names, training_folders
from .names import named, printable
from .pictures import PictureFacts, inspect_picture
from .spaced_tags import are_spaced, look_spaced, parted_at_spaces

_MOST_NAMED = 10  # files named one by one before "and N more"


@dataclass(frozen=True)
class Example:
    """One picture to train on.

    repeats: times it is seen in an epoch. caption: as its file has it, or edited (`edits.with_edits`). size: (width,
    height) after EXIF orientation. digest: sha256 of the picture file, hex. folder: the name of its folder.
    class_tokens: what follows the number in a kohya folder's name. is_reg: whether it shows the class rather than the
    subject. mask: the file of its mask, if it has one, and that file's digest. caption_path: the file that the
    caption was read from, None where there is none. caption_settings: those about captions that are other ones for
    this picture (`captions.settings_of`). is_spaced: whether tags have spaces between them in that file."""

    path: Path
    repeats: int
    caption: str
    size: Size
    digest: str
    folder: str
    class_tokens: str = ""
    is_reg: bool = False
    mask: Path | None = None
    mask_digest: str = ""
    caption_path: Path | None = None
    caption_settings: tuple[tuple[str, Any], ...] = ()
    is_spaced: bool = False

    @property
    def name(self) -> str:
        """How messages name it: `10_cat/03.jpg`."""
        return named(self.path)


@dataclass(frozen=True)
class Dataset:
    """What was found in a dataset folder: examples in a fixed order, and warnings to show before training.

    reg_dirs: repeats and number of pictures per folder of regularisation pictures, as they lie there; among the
    examples they are repeated, or left out, so that there are as many of them as of the others."""

    examples: tuple[Example, ...]
    warnings: tuple[str, ...] = ()
    reg_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def subjects(self) -> list[Example]:
        """The examples that show what is to be learned, not the class."""
        return [example for example in self.examples if not example.is_reg]

    @property
    def num_train_images(self) -> int:
        """Pictures to learn in an epoch, repeats counted: kohya's `ss_num_train_images`."""
        return sum(example.repeats for example in self.subjects)

    @property
    def num_reg_images(self) -> int:
        """Regularisation pictures, their folders' repeats counted: kohya's `ss_num_reg_images`."""
        return sum(entry["n_repeats"] * entry["img_count"] for entry in self.reg_dirs.values())

    def tag_frequency(self) -> dict[str, dict[str, int]]:
        """How often each tag stands in each folder's captions, lower case: kohya's `ss_tag_frequency`."""
        frequency: dict[str, dict[str, int]] = {}
        for example in self.subjects:
            counts = frequency.setdefault(example.folder, {})
            for tag in parse_tags(example.caption.lower()):
                counts[tag] = counts.get(tag, 0) + 1
        return frequency

    def dirs(self) -> dict[str, dict[str, int]]:
        """Repeats and number of pictures per folder: kohya's `ss_dataset_dirs`."""
        return dirs_of(self.subjects)

    def fingerprint(self) -> str:
        """Hex digest of all that decides training: the pictures' contents, captions, repeats, masks and roles, in
        order; no names."""
        facts = [_deciding(example) for example in self.examples]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class _Captioned:
    path: Path
    text: str
    caption_path: Path | None = None
    lacks: str = ""  # "no caption file" or "an empty caption file"
    is_spaced: bool = False


def scan(config: DatasetConfig) -> Dataset:
    """Find every picture in the dataset folder and its caption; read sizes and digests, not pixels.

    How pictures may lie there is `folders.training_folders`; `config.folder` may also be a file that describes a
    dataset (`dataset_files.described_folders`). Which file is a picture's caption says `caption_files`; without one,
    the name after N_ is, as kohya has it. Where `config.captions` is "none" every caption is empty. Hidden files,
    caches and `__MACOSX` are passed over. Raises DataError for a folder that is missing, unreadable or without usable
    pictures, and, where `config.bad_pictures` is "stop", for the first picture or caption that cannot be used;
    ConfigError for bucket settings that contradict each other."""
    check_bucket_settings(config)
    warnings: list[str] = []
    root = _existing(config.folder)
    examples: list[Example] = []
    for folder in _folders(root, config, warnings):
        examples += _examples_of(folder, config, warnings)
    if not examples:
        raise DataError("\n".join([f"no picture in {printable(root.name)} can be used; replace them", *warnings]))
    return Dataset(tuple(examples), tuple(warnings))


def _folders(root: Path, config: DatasetConfig, warnings: list[str]) -> list[Folder]:
    if root.is_file():
        return described_folders(root, config, warnings)
    set_aside = {Path(each).expanduser().resolve() for each in (config.masks_dir, config.reg_data_dir) if each.strip()}
    return training_folders(root, set_aside, warnings)


def home_of(folder: str) -> Path:
    """The folder in which what belongs to a dataset is kept: its own, or that of the file that describes it."""
    path = Path(folder.strip()).expanduser()
    return path.parent if path.is_file() else path


def dirs_of(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Repeats and number of pictures per folder."""
    dirs: dict[str, dict[str, int]] = {}
    for example in examples:
        entry = dirs.setdefault(example.folder, {"n_repeats": example.repeats, "img_count": 0})
        entry["img_count"] += 1
    return dirs


def _deciding(example: Example) -> tuple[object, ...]:
    always: tuple[object, ...] = (example.digest, example.caption, example.repeats)
    always += (example.caption_settings,) if example.caption_settings else ()
    return (*always, example.is_reg, example.mask_digest) if example.is_reg or example.mask else always


def _existing(folder: str) -> Path:
    if not folder.strip():
        raise DataError("no dataset folder is given; choose the folder that holds the pictures")
    root = Path(folder.strip()).expanduser()
    if root.is_file() and root.suffix.lower() not in DATASET_FILE_SUFFIXES:
        raise DataError(f"the dataset folder {printable(str(root))} is a file; choose the folder that holds it")
    if not root.exists():
        raise DataError(f"the dataset folder {printable(str(root))} does not exist; check the path")
    return root.resolve()


def _examples_of(folder: Folder, config: DatasetConfig, warnings: list[str]) -> list[Example]:
    config = replace(config, **dict(folder.caption_settings))
    pictures = [path for name, path in folder.files.items() if is_picture(name)]
    foreign = [name for name in folder.files if is_foreign(name)]
    if foreign:
        unreadable = DataError(f"{folder.name}: {listed_names(foreign)} cannot be read here; save as PNG")
        _refuse(config, warnings, [unreadable])
    facts = _inspected(pictures, config, warnings)
    captioned = [_Captioned(each, "") for each in facts]
    if config.captions == "files":
        captioned = _captioned(folder, list(facts), config, warnings)
    return [
        Example(
            each.path,
            folder.repeats,
            _framed(each.text, folder),
            facts[each.path].size,
            facts[each.path].digest,
            folder.name,
            folder.class_tokens,
            folder.is_reg,
            caption_path=each.caption_path,
            caption_settings=folder.caption_settings,
            is_spaced=each.is_spaced,
        )
        for each in captioned
    ]


def _framed(caption: str, folder: Folder) -> str:
    """The caption, each of its lines, between the prefix and the suffix that a dataset file gives its folder."""
    if not folder.caption_prefix and not folder.caption_suffix:
        return caption
    lines = [(folder.caption_prefix, line, folder.caption_suffix) for line in caption.split("\n")]
    return "\n".join(" ".join(part for part in parts if part) for parts in lines)


def _inspected(pictures: Sequence[Path], config: DatasetConfig, warnings: list[str]) -> dict[Path, PictureFacts]:
    """Size and digest of each picture that can be used; the others go where `bad_pictures` says."""
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 2)) as pool:
        results = list(pool.map(lambda path: _facts_or_error(path, config), pictures))
    _refuse(config, warnings, [each for each in results if isinstance(each, DataError)])
    return {path: each for path, each in zip(pictures, results, strict=True) if isinstance(each, PictureFacts)}


def _facts_or_error(path: Path, config: DatasetConfig) -> PictureFacts | DataError:
    try:
        facts = inspect_picture(path)
    except DataError as error:
        return error
    too_small = why_too_small(facts.size, config)
    return DataError(f"{named(path)}: {too_small}") if too_small else facts


def _refuse(config: DatasetConfig, warnings: list[str], errors: Sequence[DataError]) -> None:
    if errors and config.bad_pictures == "stop":
        raise errors[0]
    warnings.extend(f"left out: {error}" for error in errors[:_MOST_NAMED])
    if len(errors) > _MOST_NAMED:
        warnings.append(f"left out: {len(errors) - _MOST_NAMED} more pictures that cannot be used")


def _captioned(
    folder: Folder, pictures: Sequence[Path], config: DatasetConfig, warnings: list[str]
) -> list[_Captioned]:
    if folder.captions is not None:
        return _captioned_by_file(folder, pictures, folder.captions, warnings)
    index = CaptionIndex(folder.files, folder.caption_suffixes)
    found: list[_Captioned] = []
    latin1: list[str] = []
    long: list[str] = []
    unreadable: list[DataError] = []
    for picture in pictures:
        path = index.of(picture)
        if path is None:
            found.append(_Captioned(picture, folder.class_tokens, lacks="no caption file"))
            continue
        try:
            caption = read_caption(path, all_lines=config.enable_wildcard)
        except DataError as error:
            unreadable.append(DataError(f"{named(picture)}, as {error}"))
            continue
        if not caption.is_utf8:
            latin1.append(path.name)
        if caption.lines > 1 and not config.enable_wildcard:
            long.append(path.name)
        if caption.text:
            found.append(_Captioned(picture, caption.text, path))
        else:
            found.append(_Captioned(picture, folder.class_tokens, path, lacks="an empty caption file"))
    _refuse(config, warnings, unreadable)
    found = _parted(folder, found, config, warnings)
    warnings.extend(_caption_warnings(folder, found, latin1, long))
    return found


def _parted(folder: Folder, found: list[_Captioned], config: DatasetConfig, warnings: list[str]) -> list[_Captioned]:
    """The captions with commas between their tags where their files have spaces, for certain or by the settings."""
    written = [each for each in found if each.caption_path is not None and is_plain_caption(each.caption_path)]
    texts = [each.text for each in written if not each.lacks]
    is_certain = config.caption_separator == "auto" and are_spaced(texts)
    if config.caption_separator == "space" or is_certain:
        if is_certain:
            warnings.append(
                f"{folder.name}: the captions are tags with spaces between and are read so, as imgbrd-grabber writes "
                "them; set caption_separator to comma if they are not"
            )
        spaced = {each.path for each in written if not each.lacks}
        return [
            replace(each, text=parted_at_spaces(each.text), is_spaced=True) if each.path in spaced else each
            for each in found
        ]
    if config.caption_separator == "auto" and look_spaced(texts):
        warnings.append(
            f"{folder.name}: most captions are words with underscores and no commas, as imgbrd-grabber writes tags, "
            "but some have commas: each without is taken as one tag; set caption_separator to space to part them"
        )
    return found


def _captioned_by_file(
    folder: Folder, pictures: Sequence[Path], captions: Mapping[Path, str], warnings: list[str]
) -> list[_Captioned]:
    bare = [path.name for path in pictures if not captions[path]]
    if bare:
        warnings.append(f"{folder.name}: {listed_names(bare)} without caption and tags: trained with an empty caption")
    return [_Captioned(path, captions[path] or folder.class_tokens) for path in pictures]


def _caption_warnings(
    folder: Folder, found: Sequence[_Captioned], latin1: Sequence[str], long: Sequence[str]
) -> Iterator[str]:
    where = folder.name
    instead = f'"{folder.class_tokens}"' if folder.class_tokens else "an empty caption"
    for lack in ("no caption file", "an empty caption file"):
        names = [each.path.name for each in found if each.lacks == lack]
        if names:
            yield f"{where}: {listed_names(names)} with {lack}: trained with {instead}; write one to change it"
    if latin1:
        yield f"{where}: {listed_names(latin1)}: not UTF-8, read as Latin-1; save as UTF-8 if letters look wrong"
    if long:
        yield f"{where}: {listed_names(long)}: several lines, of which the first is the caption; join them to use all"
    by_stem: dict[Path, list[str]] = {}
    for each in found:
        if each.caption_path is not None:
            by_stem.setdefault(each.caption_path, []).append(printable(each.path.name))
    for names in by_stem.values():
        if len(names) > 1:
            yield f"{where}: {' and '.join(names)} share one caption and are both trained; rename one if they differ"
