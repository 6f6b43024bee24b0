"""LdmHost against A1111: what it computes, what it refuses, and that it gives everything back.

The checks run in a process of their own; see tests/hosts/contract. They always run in the stand-in (tests/hosts/a1111),
and also in a real A1111 where A1111_DIR names one and A1111_PYTHON its interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts import contract
from tests.hosts.contract.in_a1111 import REPLACED

PACK = Path(__file__).resolve().parents[2]
STAND_IN = PACK / "tests" / "hosts" / "a1111"
_REPLACED = tuple(f"{name}[" for name in REPLACED)
NAMES = [name for name in contract.checks_in("A1111") if not name.startswith(_REPLACED)]


def _results(request: pytest.FixtureRequest, test: str, a1111: Path, python: str, folder: Path) -> dict[str, dict]:
    """The result of every check that this session asks for, by its name."""
    items = [each for each in request.session.items if each.path == request.path and isinstance(each, pytest.Function)]
    wanted = [str(item.callspec.params["name"]) for item in items if item.originalname == test]
    runner, found = PACK / "tests" / "hosts" / "a1111_contract.py", folder / "results.jsonl"
    with (folder / "log.txt").open("w") as log:
        ended = subprocess.run(
            [python, str(runner), str(a1111), str(PACK), str(folder), str(found), *wanted],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    lines = found.read_text().splitlines() if found.exists() else []
    assert lines, f"the checks ended with code {ended.returncode}:\n{(folder / 'log.txt').read_text()[-4000:]}"
    return {result["name"]: result for result in map(json.loads, lines)}


@pytest.fixture(scope="module")
def in_the_stand_in(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("stand_in")
    return _results(request, "test_contract_in_the_stand_in", STAND_IN, sys.executable, folder)


@pytest.fixture(scope="module")
def in_a_real_one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    named = os.environ.get("A1111_DIR", "")
    if not (Path(named) / "modules" / "sd_hijack_open_clip.py").is_file():
        pytest.skip("no A1111: set A1111_DIR to its folder, and A1111_PYTHON to its interpreter")
    python, folder = os.environ.get("A1111_PYTHON", sys.executable), tmp_path_factory.mktemp("a1111")
    return _results(request, "test_contract_in_a_real_one", Path(named).resolve(), python, folder)


@pytest.mark.parametrize("name", NAMES)
def test_contract_in_the_stand_in(in_the_stand_in: dict[str, dict], name: str):
    _require_passed(in_the_stand_in, name)


@pytest.mark.webui
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_contract_in_a_real_one(in_a_real_one: dict[str, dict], name: str):
    _require_passed(in_a_real_one, name)


def _require_passed(results: dict[str, dict], name: str) -> None:
    assert name in results, "the process ended before this check"
    result = results[name]
    print(result["seconds"], "s", *result["notes"])
    assert not result["failure"], result["failure"]
