"""The shim among other extensions, loaded by A1111's loader and by Forge's habit of leaving every folder on the path:
nothing of ours takes another's name, and nothing of theirs takes ours."""

from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[2]
STAND_IN = PACK / "tests" / "hosts" / "a1111"

# Top-level names that other extensions and the hosts themselves use, and every folder of ours.
THEIRS = ("network", "lora", "nodes", "trainer", "pipelines", "library", "train", "web", "tests", "docs")

EXTENSION = """
import importlib, os
from scripts import {name}_helper  # as ControlNet does: folders named scripts are one
from modules import scripts

for theirs in {theirs}:
    module = importlib.import_module(theirs)
    assert module.whose in {owners}, module

class Theirs(scripts.Script):
    pass
"""

PLOT = """
from modules import scripts

class AxisOption:
    def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
        self.label, self.choices = label, choices

axis_options = [AxisOption("Nothing", str, None)]

class Script(scripts.Script):
    pass
"""

PROGRAM = """
import json, os, sys, types
sys.path.insert(0, sys.argv[1])
keeps_folders = sys.argv[4] == "Forge"
from modules import paths_internal, script_callbacks, scripts

if keeps_folders:
    for each in sorted(os.listdir(paths_internal.extensions_dir)):
        sys.path.insert(0, os.path.join(paths_internal.extensions_dir, each))
before = list(sys.path)

def found():
    files = {name: os.path.realpath(getattr(module, "__file__", None) or "") for name, module in sys.modules.items()}
    ours, *not_ours = (os.path.realpath(folder) + os.sep for folder in (sys.argv[5], sys.argv[1], sys.prefix))
    own = [name for name, file in files.items() if file.startswith(ours) and not file.startswith(tuple(not_ours))]
    from trainer_core import webui_extension
    app = types.SimpleNamespace(router=types.SimpleNamespace(routes=["theirs"]))
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    (plot,) = [data.module for data in scripts.scripts_data if data.script_class.__module__ == "xyz_grid.py"]
    return {
        "failures": list(scripts.loading_failures.values()),
        "scripts": sorted(os.path.basename(data.path) for data in scripts.scripts_data),
        "top": sorted({name.partition(".")[0] for name in own}),
        "path": sys.path == before,
        "axes": [axis.label for axis in plot.axis_options],
        "choices": plot.axis_options[1].choices(),
        "tabs": len(script_callbacks.callbacks["ui_tabs"]),
        "routes": app.router.routes[-1] == "theirs" and len(app.router.routes) > 5,
        "studio": id(webui_extension.studio()),
        "networks": files["networks"],
        "whose": {name: sys.modules[name].whose for name in json.loads(sys.argv[6])},
    }

scripts.load_scripts()
first = found()
scripts.reload_scripts()
print(json.dumps([first, found()]))
"""


@pytest.fixture(params=["A1111", "Forge"], scope="module")
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """What the loader has made of our folder between two others: at first, and after Reload UI."""
    tmp_path = tmp_path_factory.mktemp("webui")
    extensions = tmp_path / "extensions"
    for name in ("aaa", "zzz"):
        scripts = extensions / name / "scripts"
        scripts.mkdir(parents=True)
        (scripts / f"{name}_helper.py").write_text("")
        text = EXTENSION.format(name=name, theirs=THEIRS, owners=("aaa", "zzz"))
        (scripts / f"{name}.py").write_text(text)
        for theirs in THEIRS:
            (extensions / name / f"{theirs}.py").write_text(f"whose = {name!r}\n")
    plot = extensions / "0_plot" / "scripts"
    plot.mkdir(parents=True)
    (plot / "xyz_grid.py").write_text(PLOT)
    try:
        (extensions / "LazyLoRA").symlink_to(PACK, target_is_directory=True)
    except OSError:
        pytest.skip("no links may be made here")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", PROGRAM, str(STAND_IN), "--data-dir", str(tmp_path), request.param, str(PACK)]
    ended = subprocess.run(
        [*command, json.dumps(THEIRS)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    first, again = json.loads(ended.stdout.splitlines()[-1])
    return first, again


def test_everybody_finds_their_own(loaded: tuple[dict, dict]):
    for found in loaded:
        assert found["failures"] == []
        assert set(found["whose"].values()) <= {"aaa", "zzz"}
        assert Path(found["networks"]).parent.name == "Lora", "the built-in Lora extension lost its module"
        assert found["top"] == ["trainer_core"]
        assert found["path"], "sys.path is not what it was"
        assert found["scripts"] == ["aaa.py", "xyz_grid.py", "zzz.py"], "a Script of ours would be shown in the page"


def test_reload_ui_registers_everything_once_and_keeps_the_studio(loaded: tuple[dict, dict]):
    first, again = loaded
    assert first["studio"] == again["studio"]
    for found in loaded:
        assert found["axes"] == ["Nothing", "[LazyLoRA] Epoch", "[LazyLoRA] Weight"]
        assert found["choices"] == ["base"]
        assert (found["tabs"], found["routes"]) == (1, True)


def test_our_root_offers_no_other_name():
    # a folder without __init__.py never hides a module or package of that name, wherever it is on the path
    suffixes = tuple(importlib.machinery.all_suffixes())
    modules = {path.stem for path in PACK.iterdir() if path.name.endswith(suffixes)}
    packages = {path.name for path in PACK.iterdir() if (path / "__init__.py").exists()}
    assert modules <= {"__init__", "install", "conftest"}
    assert packages == {"trainer_core"}


def test_the_script_has_a_name_that_nobody_else_has():
    assert [path.name for path in (PACK / "scripts").glob("*.py")] == ["lazylora_extension.py"]
    assert [path.name for path in (PACK / "javascript").iterdir()] == ["lazylora.js"]
