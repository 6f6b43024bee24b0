"""Where a tagger's files are: in a folder of the machine, or on Hugging Face for those who ask for them there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

CSV_FILE = "selected_tags.csv"
MAPPING_FILE = "tag_mapping.json"
# which model file stands beside which list of tags, in SmilingWolf's repositories and in cl_tagger's
_MODEL_OF = {CSV_FILE: "model.onnx", MAPPING_FILE: "model_optimized.onnx"}
_REPOSITORY = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)((?:/[\w-][\w.-]*)*)")
_EXAMPLE = "SmilingWolf/wd-vit-tagger-v3"


@dataclass(frozen=True)
class ModelFiles:
    """A tagger: the ONNX model and the list of its tags, whose name tells the format."""

    model: Path
    tags: Path


def find_model(name: str, models_folder: Path, download: bool = False) -> ModelFiles:
    """The files of the tagger `name`: a folder here, or `owner/repository`, maybe with `/subfolder`, of Hugging Face.

    A repository's files are looked for in `models_folder`, under kohya's `owner_repository`, and fetched to there if
    `download` says so. Raises DataError that says what to put where when there are none."""
    if not name.strip():
        raise DataError(
            f"no tagger is chosen; put model.onnx and {CSV_FILE} of {_EXAMPLE} into a folder and name the folder"
        )
    given = Path(name.strip()).expanduser()
    if given.is_dir():
        return _files_in(given)
    if (models_folder / name.strip()).is_dir() and not given.is_absolute() and ".." not in given.parts:
        return _files_in(models_folder / name.strip())
    repository = _REPOSITORY.fullmatch(name.strip())
    if repository is None:
        raise DataError(f"there is no tagger's folder {name}; check the path, or give a name such as {_EXAMPLE}")
    subfolder = repository[2].strip("/")
    folder = models_folder / repository[1].replace("/", "_")
    if (folder / subfolder).is_dir():
        return _files_in(folder / subfolder)
    files = (MAPPING_FILE, _MODEL_OF[MAPPING_FILE]) if subfolder else (CSV_FILE, _MODEL_OF[CSV_FILE])
    if not download:
        raise DataError(
            f"the tagger {name} is not on this machine; put its {' and '.join(files)} into {folder / subfolder}, "
            "or turn download on"
        )
    _fetch(repository[1], subfolder, files, folder)
    return _files_in(folder / subfolder)


def offered_models(models_folder: Path) -> Mapping[str, ModelFiles]:
    """The taggers inside a folder of taggers, by their folders' names relative to it, sorted."""
    found: dict[str, ModelFiles] = {}
    for tags in sorted([*models_folder.glob(f"**/{CSV_FILE}"), *models_folder.glob(f"**/{MAPPING_FILE}")]):
        model = _model_beside(tags)
        if model is not None:
            found[tags.parent.relative_to(models_folder).as_posix()] = ModelFiles(model, tags)
    return found


def _files_in(folder: Path) -> ModelFiles:
    for name in (CSV_FILE, MAPPING_FILE):
        tags = folder / name
        if tags.is_file():
            model = _model_beside(tags)
            if model is not None:
                return ModelFiles(model, tags)
            raise DataError(f"{folder} has {name} but no {_MODEL_OF[name]}; put that beside it")
    raise DataError(f"{folder} has neither {CSV_FILE} nor {MAPPING_FILE}; put it beside the model")


def _model_beside(tags: Path) -> Path | None:
    """The model of the name that goes with the list of tags, or else the only ONNX file there."""
    usual = tags.with_name(_MODEL_OF[tags.name])
    if usual.is_file():
        return usual
    models = sorted(tags.parent.glob("*.onnx"))
    return models[0] if len(models) == 1 else None


def _fetch(repository: str, subfolder: str, files: tuple[str, ...], folder: Path) -> None:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise DataError("fetching a tagger needs huggingface_hub; pip install huggingface_hub") from None
    for file in files:
        try:
            hf_hub_download(repository, file, subfolder=subfolder or None, local_dir=str(folder))
        except Exception as error:  # its errors are its own, requests' and the system's
            reason = str(error).strip().split("\n")[0]
            raise DataError(
                f"{file} of {repository} cannot be fetched ({reason}); check the name and the network, "
                f"or put it into {folder / subfolder} yourself"
            ) from error
