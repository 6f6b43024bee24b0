"""A folder of pictures as examples to train on, and everything in it that a person should know of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..config import DatasetConfig
from ..errors import DataError
from .buckets import Size, check_bucket_settings, why_too_small
from .caption_files import CAPTION_SUFFIXES, read_caption
from .captions import parse_tags
from .pictures import PICTURE_SUFFIXES, UNREADABLE_SUFFIXES, PictureFacts, inspect_picture, named

_REPEATS = re.compile(r"(\d+)(?:_(.*))?")
_MOST_REPEATS = 500  # more is a year or a date in front of a folder's name
_MOST_NAMED = 10  # files named one by one before "and N more"


@dataclass(frozen=True)
class Example:
    """One picture to train on.

    repeats: times it is seen in an epoch. caption: as its file has it, or edited (`edits.with_edits`). size: (width,
    height) after EXIF orientation. digest: sha256 of the picture file, hex. folder: the name of its folder.
    class_tokens: what follows the number in a kohya folder's name. is_reg: whether it shows the class rather than the
    subject. mask: the file of its mask, if it has one, and that file's digest. caption_path: the caption's file, None
    where there is none."""

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
        dirs: dict[str, dict[str, int]] = {}
        for example in self.subjects:
            entry = dirs.setdefault(example.folder, {"n_repeats": example.repeats, "img_count": 0})
            entry["img_count"] += 1
        return dirs

    def fingerprint(self) -> str:
        """Hex digest of all that decides training: the pictures' contents, captions, repeats, masks and roles, in
        order; no names."""
        facts = [_deciding(example) for example in self.examples]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class _Folder:
    path: Path
    repeats: int
    class_tokens: str
    files: Mapping[str, Path]  # by name, sorted


@dataclass(frozen=True)
class _Captioned:
    path: Path
    text: str
    caption_path: Path | None = None
    lacks: str = ""  # "no caption file" or "an empty caption file"


def scan(config: DatasetConfig) -> Dataset:
    """Find every picture in the dataset folder and its caption; read sizes and digests, not pixels.

    kohya's `N_name` folders (N repeats each), or else the pictures of the folder itself. Captions are `.txt` or
    `.caption` files beside the pictures; without one, the name after N_ is the caption, as kohya has it. Where
    `config.captions` is "none" every caption is empty. Hidden files, caches and `__MACOSX` are passed over. Raises
    DataError for a folder that is missing, unreadable or without usable pictures, and, where `config.bad_pictures` is
    "stop", for the first picture that cannot be used; ConfigError for bucket settings that contradict each other."""
    check_bucket_settings(config)
    warnings: list[str] = []
    root = _existing_folder(config.folder)
    examples: list[Example] = []
    set_aside = {Path(each).expanduser().resolve() for each in (config.masks_dir, config.reg_data_dir) if each.strip()}
    for folder in _training_folders(root, set_aside, warnings):
        examples += _examples_of(folder, config, warnings)
    if not examples:
        raise DataError("\n".join([f"no picture in {root.name} can be used; replace them", *warnings]))
    return Dataset(tuple(examples), tuple(warnings))


def _deciding(example: Example) -> tuple[object, ...]:
    always = (example.digest, example.caption, example.repeats)
    return (*always, example.is_reg, example.mask_digest) if example.is_reg or example.mask else always


def _existing_folder(folder: str) -> Path:
    if not folder.strip():
        raise DataError("no dataset folder is given; choose the folder that holds the pictures")
    root = Path(folder.strip()).expanduser()
    if root.is_file():
        raise DataError(f"the dataset folder {root} is a file; choose the folder that holds it")
    if not root.is_dir():
        raise DataError(f"the dataset folder {root} does not exist; check the path")
    return root.resolve()


def _training_folders(root: Path, set_aside: set[Path], warnings: list[str]) -> list[_Folder]:
    files, subfolders = _listed(root)
    subfolders = [each for each in subfolders if each.resolve() not in set_aside]
    repeat_folders = [each for each in subfolders if _repeats_and_name(each.name)]
    if not repeat_folders:
        return [_flat_folder(root, files, subfolders, warnings)]
    loose = [name for name in files if _is_picture(name)]
    if loose:
        warnings.append(
            f"{_listed_names(loose)} beside the N_name folders: not trained; move them into one of the folders"
        )
    for other in subfolders:
        if other not in repeat_folders:
            warnings.append(f"the folder {other.name} is not trained: put the repeats in front, as in 10_{other.name}")
    return [each for each in (_repeat_folder(path, warnings) for path in repeat_folders) if each]


def _flat_folder(root: Path, files: Mapping[str, Path], subfolders: Sequence[Path], warnings: list[str]) -> _Folder:
    if not any(_is_picture(name) for name in files):
        if subfolders:
            raise DataError(
                f"the folder {root} has no pictures, only folders; put the repeats in front of their names, "
                f"as in 10_{subfolders[0].name}, or choose one of them"
            )
        foreign = [name for name in files if _is_foreign(name)]
        cure = f"save {_listed_names(foreign)} as PNG or JPEG" if foreign else "put PNG, JPEG or WebP files into it"
        raise DataError(f"the folder {root} has no pictures that can be read; {cure}")
    _, class_tokens = _repeats_and_name(root.name) or (1, "")
    if _repeats_and_name(root.name):
        warnings.append(
            f"{root.name} is taken as a plain folder, each picture once per epoch; "
            f"choose {root.parent.name} instead to have its repeats"
        )
    return _Folder(root, 1, class_tokens, files)


def _repeat_folder(path: Path, warnings: list[str]) -> _Folder | None:
    repeats, class_tokens = _repeats_and_name(path.name) or (1, "")
    files, _ = _listed(path)
    if not any(_is_picture(name) or _is_foreign(name) for name in files):
        warnings.append(f"the folder {path.name} has no pictures; put some into it or remove it")
        return None
    if repeats > _MOST_REPEATS:
        warnings.append(
            f"every picture in {path.name} is seen {repeats} times an epoch; rename the folder, say to 10_{path.name}, "
            "if its number means something else"
        )
    return _Folder(path, repeats, class_tokens, files)


def _repeats_and_name(folder_name: str) -> tuple[int, str] | None:
    """(10, "cat") for `10_cat`; None for a name that does not begin with a number above 0."""
    match = _REPEATS.fullmatch(folder_name)
    if not match or int(match[1]) < 1:
        return None
    return int(match[1]), (match[2] or "").strip()


def _listed(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """The folder's files by name and its subfolders, sorted; hidden ones and macOS's leftovers are passed over."""
    try:
        names = sorted(entry for entry in os.listdir(folder) if not entry.startswith(".") and entry != "__MACOSX")
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be opened ({error.strerror}); change its permissions or choose another"
        ) from error
    paths = {name: folder / name for name in names}
    subfolders = [path for path in paths.values() if path.is_dir()]
    return {name: path for name, path in paths.items() if path not in subfolders}, subfolders


def _examples_of(folder: _Folder, config: DatasetConfig, warnings: list[str]) -> list[Example]:
    pictures = [path for name, path in folder.files.items() if _is_picture(name)]
    foreign = [name for name in folder.files if _is_foreign(name)]
    if foreign:
        _refuse(
            config,
            warnings,
            [DataError(f"{folder.path.name}: {_listed_names(foreign)} cannot be read here; save as PNG")],
        )
    facts = _inspected(pictures, config, warnings)
    captioned = [_Captioned(each, "") for each in facts]
    if config.captions == "files":
        captioned = _captioned(folder, list(facts), warnings)
    return [
        Example(
            each.path,
            folder.repeats,
            each.text,
            facts[each.path].size,
            facts[each.path].digest,
            folder.path.name,
            folder.class_tokens,
            caption_path=each.caption_path,
        )
        for each in captioned
    ]


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


def _captioned(folder: _Folder, pictures: Sequence[Path], warnings: list[str]) -> list[_Captioned]:
    caption_files = {_caption_key(name): path for name, path in folder.files.items() if _is_caption(name)}
    found: list[_Captioned] = []
    latin1: list[str] = []
    long: list[str] = []
    for picture in pictures:
        path = next((caption_files[key] for key in _caption_keys(picture) if key in caption_files), None)
        if path is None:
            found.append(_Captioned(picture, folder.class_tokens, lacks="no caption file"))
            continue
        caption = read_caption(path)
        if not caption.is_utf8:
            latin1.append(path.name)
        if caption.lines > 1:
            long.append(path.name)
        if caption.text:
            found.append(_Captioned(picture, caption.text, path))
        else:
            found.append(_Captioned(picture, folder.class_tokens, path, lacks="an empty caption file"))
    warnings.extend(_caption_warnings(folder, found, latin1, long))
    return found


def _caption_warnings(
    folder: _Folder, found: Sequence[_Captioned], latin1: Sequence[str], long: Sequence[str]
) -> Iterator[str]:
    where = folder.path.name
    instead = f'"{folder.class_tokens}"' if folder.class_tokens else "an empty caption"
    for lack in ("no caption file", "an empty caption file"):
        names = [each.path.name for each in found if each.lacks == lack]
        if names:
            yield f"{where}: {_listed_names(names)} with {lack}: trained with {instead}; write one to change it"
    if latin1:
        yield f"{where}: {_listed_names(latin1)}: not UTF-8, read as Latin-1; save as UTF-8 if letters look wrong"
    if long:
        yield f"{where}: {_listed_names(long)}: several lines, of which the first is the caption; join them to use all"
    by_stem: dict[str, list[str]] = {}
    for each in found:
        by_stem.setdefault(_normal(each.path.stem), []).append(each.path.name)
    for names in by_stem.values():
        if len(names) > 1:
            yield f"{where}: {' and '.join(names)} share one caption and are both trained; rename one if they differ"


def _listed_names(names: Sequence[str]) -> str:
    """`a.jpg`, `a.jpg and b.jpg`, or `a.jpg, b.jpg and 8 more`."""
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]}, {names[1]} and {len(names) - 2} more"


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def _is_foreign(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in UNREADABLE_SUFFIXES


def _is_caption(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in CAPTION_SUFFIXES


def _caption_keys(picture: Path) -> list[tuple[str, str]]:
    return [(_normal(picture.stem), suffix) for suffix in CAPTION_SUFFIXES]


def _caption_key(name: str) -> tuple[str, str]:
    stem, suffix = os.path.splitext(name)
    return _normal(stem), suffix.lower()


def _normal(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)  # macOS writes é as two characters into some names and as one into others
