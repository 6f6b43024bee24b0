"""Finds the real hosts and gives them the pack, thin checkpoints and a folder of pictures.

COMFYUI_DIR names ComfyUI's folder; when the pack stands in a ComfyUI's custom_nodes, that ComfyUI is taken.
COMFYUI_PYTHON names the interpreter that runs it, by default the one that runs pytest. FORGE_DIR and FORGE_PYTHON do
the same for Forge. Without a host its tests are skipped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.checkpoints import write_sd1, write_sdxl
from tests.hosts.comfy_server import ComfyClient, comfy_server, make_base_directory
from tests.hosts.webui_server import WebuiClient, forge_server, make_data_directory

PACK = Path(__file__).resolve().parents[2]
TINY_LAYERS = 3  # text layers of the thin checkpoints; TinyCheckpointLoader wants the number


@pytest.fixture(scope="session")
def comfy_dir() -> Path:
    """ComfyUI's folder."""
    named = os.environ.get("COMFYUI_DIR")
    if named and not _is_comfy(Path(named)):
        pytest.skip(f"COMFYUI_DIR={named} is not a ComfyUI folder")
    if named:
        return Path(named).resolve()
    if PACK.parent.name == "custom_nodes" and _is_comfy(PACK.parents[1]):
        return PACK.parents[1]
    pytest.skip("no ComfyUI: set COMFYUI_DIR to its folder, and COMFYUI_PYTHON to its interpreter")


@pytest.fixture(scope="session")
def comfy_python() -> str:
    """The interpreter that ComfyUI runs with."""
    return os.environ.get("COMFYUI_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def comfy_base(comfy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base directory with the pack, the tests' own loader and three checkpoints: sd1.safetensors with the twelve text
    layers that CheckpointLoaderSimple wants, sd1_tiny and sdxl_tiny for TinyCheckpointLoader."""
    base = make_base_directory(tmp_path_factory.mktemp("comfy"), [PACK, Path(__file__).parent / "tiny_loader.py"])
    checkpoints = base / "models" / "checkpoints"
    write_sd1(checkpoints / "sd1.safetensors")
    write_sd1(checkpoints / "sd1_tiny.safetensors", TINY_LAYERS, thin_vae=True)
    write_sdxl(checkpoints / "sdxl_tiny.safetensors", (TINY_LAYERS, TINY_LAYERS), thin_vae=True)
    return base


@pytest.fixture(scope="session")
def comfy(comfy_dir: Path, comfy_python: str, comfy_base: Path) -> Iterator[ComfyClient]:
    """A running ComfyUI with the pack loaded."""
    with comfy_server(comfy_dir, comfy_python, comfy_base) as client:
        yield client


@pytest.fixture(scope="session")
def forge_dir() -> Path:
    """Forge's folder."""
    named = os.environ.get("FORGE_DIR")
    if not named:
        pytest.skip("no Forge: set FORGE_DIR to its folder, and FORGE_PYTHON to its interpreter")
    if not (Path(named) / "modules_forge").is_dir():
        pytest.skip(f"FORGE_DIR={named} is not a Forge folder")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def forge_python() -> str:
    """The interpreter that Forge runs with."""
    return os.environ.get("FORGE_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def forge_data(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the pack as an extension and one checkpoint, sd1.safetensors."""
    data = make_data_directory(tmp_path_factory.mktemp("forge"), [PACK])
    write_sd1(data / "models" / "Stable-diffusion" / "sd1.safetensors")
    return data


@pytest.fixture(scope="session")
def forge(forge_dir: Path, forge_python: str, forge_data: Path) -> Iterator[WebuiClient]:
    """A running Forge, UI and API, with the pack loaded."""
    with forge_server(forge_dir, forge_python, forge_data) as client:
        yield client


def _is_comfy(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy" / "model_patcher.py").is_file()
