"""ComfyHost against a real ComfyUI: what it computes, what it refuses, and that it gives everything back.

The checks run in ComfyUI's own interpreter, in one process; see tests/hosts/contract."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.hosts import comfy_contract, contract
from tests.hosts.checkpoints import write_sd1, write_sd2, write_sdxl

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

PACK = Path(__file__).resolve().parents[2]
_LAYERS = contract.TEXT_LAYERS


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, comfy_dir: Path, comfy_python: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict]:
    """The result of every check that this session asks for, by its name."""
    ours = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    wanted = [str(item.callspec.params["name"]) for item in ours]
    folder = tmp_path_factory.mktemp("contract")
    write_sd1(folder / "sd1.safetensors", _LAYERS, thin_vae=True)
    write_sd1(folder / "sd1_inpaint.safetensors", _LAYERS, thin_vae=True, inpaint=True)
    write_sd2(folder / "sd2.safetensors", _LAYERS, thin_vae=True)
    write_sdxl(folder / "sdxl.safetensors", (_LAYERS, _LAYERS), thin_vae=True)
    write_sdxl(folder / "sdxl_velocity.safetensors", (_LAYERS, _LAYERS), thin_vae=True, velocity=True)
    found = folder / "results.jsonl"
    with (folder / "log.txt").open("w") as log:
        ended = subprocess.run(
            [comfy_python, comfy_contract.__file__, str(comfy_dir), str(PACK), str(folder), str(found), *wanted],
            cwd=comfy_dir,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    lines = found.read_text().splitlines() if found.exists() else []
    assert lines, f"the checks ended with code {ended.returncode}:\n{(folder / 'log.txt').read_text()[-4000:]}"
    return {result["name"]: result for result in map(json.loads, lines)}


@pytest.mark.parametrize("name", contract.checks_in("ComfyUI"))
def test_contract(results: dict[str, dict], name: str):
    assert name in results, "the process ended before this check"
    result = results[name]
    print(result["seconds"], "s", *result["notes"])
    assert not result["failure"], result["failure"]
