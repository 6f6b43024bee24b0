"""How pictures lie in folders: kohya's `N_name`, all in one, or nested."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from .caption_files import CAPTION_SUFFIXES
from .names import printable
from .pictures import PICTURE_SUFFIXES, UNREADABLE_SUFFIXES

_REPEATS = re.compile(r"(\d+)(?:_(.*))?")
_MOST_REPEATS = 500  # more is a year or a date in front of a folder's name
_MOST_FOLDERS = 2000  # a home folder chosen by mistake has more


@dataclass(frozen=True)
class Folder:
    """Pictures that are read alike, with what lies beside them.

    name: as metadata and masks know it. class_tokens: the caption of pictures that have none. files: by name, sorted.
    caption_suffixes: those of caption files, the first that is there is read. captions: by the picture's path, where a
    file has them all; then no caption file is read. caption_prefix and caption_suffix: put around each caption.
    caption_settings: those of `DatasetConfig` about captions that are other ones here."""

    path: Path
    name: str
    repeats: int
    class_tokens: str
    files: Mapping[str, Path]
    is_reg: bool = False
    caption_suffixes: tuple[str, ...] = CAPTION_SUFFIXES
    captions: Mapping[Path, str] | None = None
    caption_prefix: str = ""
    caption_suffix: str = ""
    caption_settings: tuple[tuple[str, Any], ...] = ()


def training_folders(root: Path, set_aside: set[Path], warnings: list[str]) -> list[Folder]:
    """The folders that kohya's rules, or else common sense, find in a dataset's folder.

    `N_name` folders directly inside, where there is one; else the folder's own pictures; else, where there are only
    folders, all that are below, each picture once unless its folder is called `N_name`. Links are followed, each folder
    is read once. set_aside: folders, links followed, that hold something else. What is passed over is said in
    `warnings`. Raises DataError for a folder that cannot be opened or has no pictures."""
    files, subfolders = listed(root)
    subfolders = [each for each in subfolders if each.resolve() not in set_aside]
    repeat_folders = [each for each in subfolders if repeats_and_name(each.name)]
    has_pictures = any(is_picture(name) for name in files)
    if repeat_folders:
        return _repeat_folders(files, subfolders, repeat_folders, warnings)
    if not has_pictures:
        nested = list(_nested_folders(root, set_aside, warnings))
        if nested:
            names = listed_names([each.name for each in nested])
            warnings.append(f"{printable(root.name)} has no pictures itself: those of {names} inside it are trained")
            return nested
    return [_flat_folder(root, files, subfolders, warnings)]


def listed(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """The folder's files by name and its subfolders, sorted; hidden ones and macOS's leftovers are passed over.

    Raises DataError for a folder that cannot be opened."""
    try:
        names = sorted(entry for entry in os.listdir(folder) if not entry.startswith(".") and entry != "__MACOSX")
    except OSError as error:
        raise DataError(
            f"the folder {printable(str(folder))} cannot be opened ({error.strerror}); change its permissions or "
            "choose another"
        ) from error
    paths = {name: folder / name for name in names}
    subfolders = [path for path in paths.values() if os.path.isdir(path)]
    return {name: path for name, path in paths.items() if path not in set(subfolders)}, subfolders


def repeats_and_name(folder_name: str) -> tuple[int, str] | None:
    """(10, "cat") for `10_cat`; None for a name that does not begin with a number above 0."""
    match = _REPEATS.fullmatch(folder_name)
    if not match or int(match[1]) < 1:
        return None
    return int(match[1]), printable(match[2] or "").strip()


def is_picture(name: str) -> bool:
    """Whether Pillow, with its plug-ins, reads files of such a name."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def is_foreign(name: str) -> bool:
    """Whether it is a picture to a person, but not to Pillow."""
    return os.path.splitext(name)[1].lower() in UNREADABLE_SUFFIXES


def listed_names(names: Sequence[str]) -> str:
    """`a.jpg`, `a.jpg and b.jpg`, or `a.jpg, b.jpg and 8 more`."""
    if len(names) <= 2:
        return " and ".join(map(printable, names))
    return f"{printable(names[0])}, {printable(names[1])} and {len(names) - 2} more"


def _repeat_folders(
    files: Mapping[str, Path], subfolders: Sequence[Path], repeat_folders: Sequence[Path], warnings: list[str]
) -> list[Folder]:
    loose = [name for name in files if is_picture(name)]
    if loose:
        warnings.append(
            f"{listed_names(loose)} beside the N_name folders: not trained; move them into one of the folders"
        )
    for other in subfolders:
        if other not in repeat_folders:
            name = printable(other.name)
            warnings.append(f"the folder {name} is not trained: put the repeats in front, as in 10_{name}")
    return [each for each in (_repeat_folder(path, warnings) for path in repeat_folders) if each]


def _repeat_folder(path: Path, warnings: list[str]) -> Folder | None:
    repeats, class_tokens = repeats_and_name(path.name) or (1, "")
    files, subfolders = listed(path)
    name = printable(path.name)
    if not any(is_picture(each) or is_foreign(each) for each in files):
        warnings.append(f"the folder {name} has no pictures; put some into it or remove it")
        return None
    _say_what_lies_deeper(name, subfolders, warnings)
    if repeats > _MOST_REPEATS:
        warnings.append(
            f"every picture in {name} is seen {repeats} times an epoch; rename the folder, say to 10_{name}, "
            "if its number means something else"
        )
    return Folder(path, name, repeats, class_tokens, files)


def _flat_folder(root: Path, files: Mapping[str, Path], subfolders: Sequence[Path], warnings: list[str]) -> Folder:
    if not any(is_picture(name) for name in files):
        if subfolders:
            raise DataError(
                f"the folder {printable(str(root))} has no pictures, only folders; put the repeats in front of their "
                f"names, as in 10_{printable(subfolders[0].name)}, or choose one of them"
            )
        foreign = [name for name in files if is_foreign(name)]
        cure = f"save {listed_names(foreign)} as PNG or JPEG" if foreign else "put PNG, JPEG or WebP files into it"
        raise DataError(f"the folder {printable(str(root))} has no pictures that can be read; {cure}")
    _, class_tokens = repeats_and_name(root.name) or (1, "")
    if repeats_and_name(root.name):
        warnings.append(
            f"{printable(root.name)} is taken as a plain folder, each picture once per epoch; "
            f"choose {printable(root.parent.name)} instead to have its repeats"
        )
    _say_what_lies_deeper(printable(root.name), subfolders, warnings)
    return Folder(root, printable(root.name), 1, class_tokens, files)


def _say_what_lies_deeper(name: str, subfolders: Sequence[Path], warnings: list[str]) -> None:
    deeper = [path.name for path in subfolders if any(map(is_picture, _names_in(path)))]
    if deeper:
        warnings.append(f"pictures in {listed_names(deeper)} inside {name} are not trained; move them up beside others")


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _nested_folders(root: Path, set_aside: set[Path], warnings: list[str]) -> Iterator[Folder]:
    seen: set[Path] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop(0)
        true_path = path.resolve()
        if true_path in set_aside:
            continue
        if true_path in seen:
            warnings.append(f"{printable(path.name)} is a link to a folder that is read already; passed over")
            continue
        seen.add(true_path)
        if len(seen) > _MOST_FOLDERS:
            raise DataError(
                f"{printable(str(root))} has more than {_MOST_FOLDERS} folders; choose the one with the pictures"
            )
        try:
            files, subfolders = listed(path)
        except DataError as error:
            warnings.append(f"left out: {error}")
            continue
        waiting += subfolders
        if any(is_picture(name) for name in files):
            repeats, class_tokens = repeats_and_name(path.name) or (1, "")
            yield Folder(path, printable(path.relative_to(root).as_posix()), repeats, class_tokens, files)
