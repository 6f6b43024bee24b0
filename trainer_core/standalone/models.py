"""The base models that the page offers: the checkpoints of a folder, and the tiny world that comes with the pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import ConfigError

TINY_WORLD = "tiny world (built in)"
_WORLD = Path(__file__).resolve().parents[1] / "demo" / "world"
_FOR_SDXL: dict[str, Any] = {"dataset": {"resolution": 1024, "max_bucket_reso": 2048}}
# the demo's, which see
_FOR_THE_TINY_WORLD: dict[str, Any] = {
    "max_train_epochs": 6,
    "dataset": {"resolution": 64, "min_bucket_reso": 64, "batch_size": 4, "caption_dropout_rate": 0.05},
    "network": {"algo": "locon"},
    "optimizer": {
        "optimizer_args": "betas=0.9,0.99 use_bias_correction=True safeguard_warmup=True",
        "lr_scheduler": "constant",
    },
    "sample": {"cfg": 4.0},
}


def offered_models(folder: Path | None = None, file: Path | None = None) -> dict[str, Path]:
    """Name → place: `file` first, then what `folder` holds, single files and diffusers folders, then the tiny world.

    Raises ConfigError where there is no such folder or file."""
    found: dict[str, Path] = {}
    if file is not None:
        if not file.expanduser().exists():
            raise ConfigError(f"{file} does not exist; give --model a .safetensors checkpoint or a diffusers folder")
        found[file.name] = file.expanduser().absolute()
    if folder is not None:
        found |= {path.name: path for path in _checkpoints(folder.expanduser().absolute()) if path.name not in found}
    if (_WORLD / "model_index.json").is_file():
        found[TINY_WORLD] = _WORLD
    return found


def beginning_with(model: Path) -> dict[str, Any]:
    """Settings, nested and partial, that suit a model better than the defaults, which are for SD 1.x."""
    if model == _WORLD:
        return _FOR_THE_TINY_WORLD
    return _FOR_SDXL if _is_sdxl(model) else {}


def _is_sdxl(model: Path) -> bool:
    if model.is_dir():
        return (model / "text_encoder_2").is_dir()
    try:
        with safe_open(model, framework="pt") as file:
            return any(key.startswith("conditioner.embedders.1.") for key in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return False  # whoever trains on it is told


def _checkpoints(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name.casefold())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); give --models a folder of models") from None
    return [path for path in entries if _is_checkpoint(path)]


def _is_checkpoint(path: Path) -> bool:
    is_folder_of_parts = (path / "model_index.json").is_file()
    return is_folder_of_parts or (path.suffix.lower() == ".safetensors" and path.is_file())
