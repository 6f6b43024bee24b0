"""Where nodes read and write: folders of pictures, the folder of LoRAs, and the runs that lie there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from ..trainer_core.data.caption_files import CAPTION_SUFFIXES, SIDECAR_SUFFIX
from ..trainer_core.data.dataset_files import DATASET_FILE_SUFFIXES
from ..trainer_core.data.examples import home_of
from ..trainer_core.data.names import printable
from ..trainer_core.data.pictures import PICTURE_SUFFIXES
from ..trainer_core.errors import DataError, RunError
from ..trainer_core.files.run_folder import RunFolder
from ..trainer_core.run import Epoch, TrainedRun

NO_FOLDER = "(no folder in ComfyUI's input yet)"
_HOSTS_OWN = {"clipspace", "3d"}
_EPOCH = re.compile(r"(?P<run>.+)-\d{6}\.safetensors")


def offered_folders(input_directory: str) -> list[str]:
    """The folders inside ComfyUI's input directory, sorted; one entry that says so when there are none."""
    try:
        entries = sorted(entry.name for entry in os.scandir(input_directory) if entry.is_dir())
    except OSError:
        entries = []
    return [name for name in entries if not name.startswith(".") and name not in _HOSTS_OWN] or [NO_FOLDER]


def dataset_folder(folder: str, path: str, input_directory: str) -> Path:
    """The folder that a dataset node means: `path` where it is given, else `folder` inside the input directory.

    Raises DataError where neither is given or the folder would lie outside the input directory."""
    if path.strip():
        return Path(path.strip().strip('"')).expanduser()
    if not folder.strip() or folder == NO_FOLDER:
        raise DataError(
            "no dataset folder is given; put a folder of pictures into ComfyUI's input folder and refresh, "
            "or write a folder's full path into path"
        )
    root = Path(input_directory).resolve()
    chosen = root / folder
    if not chosen.resolve().is_relative_to(root) and not chosen.is_symlink():
        raise DataError(f"{folder} lies outside ComfyUI's input folder; write its full path into path")
    return chosen


def new_input_folder(folder: str, input_directory: str) -> Path:
    """A folder inside the input directory that a node may make and fill. Raises DataError for any other place."""
    root = Path(input_directory).resolve()
    try:
        chosen = (root / folder.strip()).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL, or a link in a circle
        chosen = root
    if chosen == root or not chosen.is_relative_to(root):
        raise DataError(f"{printable(folder)!r} names no folder inside ComfyUI's input folder; write a name for one")
    return chosen


def is_inside(folder: Path, directory: str) -> bool:
    """Whether a folder, links followed, lies inside one of ComfyUI's own directories."""
    return folder.expanduser().resolve().is_relative_to(Path(directory).resolve())


def folder_digest(*folders: Path) -> str:
    """Changes whenever a picture or a caption below one of them is added, removed or written; reads none of them.

    For a file that describes a dataset, what lies below the file's own folder counts."""
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(str(folder).encode("utf-8", "surrogateescape"))
        for entry in sorted(_training_files(home_of(str(folder)))):
            digest.update(repr(entry).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def output_folder(folder: str, output_directory: str, lora_directories: Iterable[str]) -> Path:
    """Where runs are kept: `folder` inside ComfyUI's output directory, or one of its LoRA folders by full path.

    A graph comes from anywhere, so it may not name any other place. Raises RunError for one."""
    root = Path(output_directory).resolve()
    chosen = (root / (folder.strip() or "loras")).resolve()
    allowed = [root, *(Path(each).resolve() for each in lora_directories)]
    if not any(chosen.is_relative_to(each) for each in allowed):
        raise RunError(f"{folder} lies outside ComfyUI's output and LoRA folders; write loras, or a folder inside them")
    return chosen


def runs_among(lora_names: Iterable[str]) -> list[str]:
    """Of ComfyUI's list of LoRA files, the folders that are runs: `cat` for `cat/cat-000001.safetensors`."""
    found = {}
    for name in lora_names:
        file = PurePath(name)
        match = _EPOCH.fullmatch(file.name)
        if match and match["run"] == file.parent.name:
            found[file.parent.as_posix()] = None
    return list(found)


def open_run(name: str, lora_directories: Iterable[str]) -> TrainedRun:
    """The epochs of a run from their files. Raises RunError where it is gone."""
    for directory in lora_directories:
        folder = Path(directory) / name
        if folder.is_dir():
            epochs = tuple(Epoch(number, path) for number, path in RunFolder(folder, key="").epochs())
            if epochs:
                return TrainedRun(folder, epochs)
    raise RunError(f'the run "{name}" has no epochs in any LoRA folder; choose another, or train it again')


def lora_name(path: Path, lora_directories: Iterable[str]) -> str:
    """A LoRA file as the loaders call it: relative to its LoRA folder; its full path where it lies in none."""
    for directory in lora_directories:
        for root in (Path(directory).absolute(), Path(directory).resolve()):
            if path.is_relative_to(root):
                return str(path.relative_to(root))
    return str(path)


def _training_files(folder: Path) -> Iterator[tuple[str, int, int]]:
    wanted = {*PICTURE_SUFFIXES, *CAPTION_SUFFIXES, SIDECAR_SUFFIX, *DATASET_FILE_SUFFIXES}
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if os.path.splitext(name)[1].lower() in wanted:
                try:
                    status = os.stat(os.path.join(parent, name))
                except OSError:
                    continue  # a broken link: reading it says so
                yield os.path.relpath(os.path.join(parent, name), folder), status.st_size, status.st_mtime_ns
