"""Who may import whom, and what importing may not do. docs/architecture.md tells why."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "trainer_core"

# A part of the trainer imports parts of the lines above its own: never one of its own line, never one below.
LAYERS = (
    {"__init__", "errors"},
    {"registry", "settings"},
    {"config"},
    {"events"},
    {"console", "data", "diffusion", "flags", "grid", "job", "meter", "optim", "plots", "spikes"},
    {"families"},
    {"files", "hosts", "networks"},
    {"advice", "download", "recipes", "tagging"},
    {"doctor", "plan"},
    {"convert", "dataset_commands", "docs_table", "footprint", "learner", "material", "record", "run", "sampling"}
    | {"telling", "watch"},
    {"session"},
    {"train"},
    {"demo"},
    {"bench", "experiments", "queue", "studio"},
    {"tab", "web_api"},
    {"standalone", "webui_extension"},
    {"cli"},
    {"__main__"},
)

# Each host's own modules, and the only places that may name them.
HOSTS = {
    "ComfyUI": (
        {"comfy", "comfy_api", "comfy_extras", "comfyui_version", "folder_paths", "execution", "server"},
        ("trainer_core/hosts/comfy", "nodes/"),
    ),
    "A1111 and Forge": (
        {"backend", "k_diffusion", "launch", "ldm", "modules", "modules_forge", "sgm"},
        ("trainer_core/hosts/webui", "scripts/"),
    ),
    "Gradio": (
        {"gradio"},
        ("trainer_core/hosts/webui", "trainer_core/tab/"),
    ),
    "diffusers": (
        {"diffusers", "transformers", "accelerate", "peft"},
        ("trainer_core/hosts/diffusers.py", "trainer_core/demo/", "trainer_core/bench/"),
    ),
}

# What nobody pays for who does not use it.
HEAVY = set().union(*(names for names, _ in HOSTS.values())) | {
    "dadaptation",
    "fastapi",
    "gallery_dl",
    "huggingface_hub",
    "lycoris",
    "matplotlib",
    "onnxruntime",
    "pillow_heif",
    "pillow_jxl",
    "prodigyopt",
    "scipy",
    "starlette",
    "torchvision",
    "uvicorn",
}
LIGHT = {"PIL", "filelock", "numpy", "safetensors", "torch", "tqdm"}


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted path from the repository's root for our own, its name for others'."""

    module: str
    line: int
    is_relative: bool
    is_lazy: bool  # inside a function
    is_for_types: bool  # under TYPE_CHECKING


def shipped_files(*folders: str) -> list[Path]:
    """Every Python file in these folders, with a name that reads well in a test's id."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """A file's path from the root, as everybody writes it."""
    return path.relative_to(ROOT).as_posix()


def imports_of(path: Path) -> Iterator[Import]:
    """Every import in a file, wherever it stands."""
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")), path, False, False)


def _imports(node: ast.AST, path: Path, is_lazy: bool, is_for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, False, is_lazy, is_for_types)
        elif isinstance(child, ast.ImportFrom):
            for module in _imported_from(child, path):
                yield Import(module, child.lineno, child.level > 0, is_lazy, is_for_types)
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        is_guard = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        yield from _imports(child, path, is_lazy or is_function, is_for_types or is_guard)


def _imported_from(node: ast.ImportFrom, path: Path) -> list[str]:
    if not node.level:
        return [node.module or ""]
    package = path.relative_to(ROOT).parent.parts
    above = ".".join(package[: len(package) - node.level + 1])
    if node.module:
        return [f"{above}.{node.module}".lstrip(".")]
    # `from . import lora` names modules; `from .. import __version__` names what stands in __init__.
    return [f"{above}.{alias.name}" if _is_module(above, alias.name) else f"{above}.__init__" for alias in node.names]


def _is_module(package: str, name: str) -> bool:
    place = ROOT / package.replace(".", "/") / name
    return place.is_dir() or place.with_suffix(".py").exists()


def part_of(module: str) -> str:
    """`trainer_core.data.buckets` → `data`."""
    return module.split(".")[1]


def layer_of(part: str) -> int:
    """The line of LAYERS on which a part stands."""
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise AssertionError(f"trainer_core/{part} is new: say in LAYERS, in tests/test_architecture.py, where it stands")


def test_the_page_shows_this_table():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    lines = ["  ".join(sorted(part for part in parts if not part.startswith("__"))) for parts in LAYERS]
    assert shown.splitlines() == [line for line in lines if line]


def test_the_page_says_what_every_part_is():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(\w+)(?:/|\.py)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    assert {part for parts in LAYERS for part in parts if not part.startswith("__")} <= told


@pytest.mark.parametrize("path", shipped_files("trainer_core"), ids=name_of)
def test_the_trainer_imports_upwards_only(path):
    own = path.relative_to(CORE).with_suffix("").parts[0]
    for each in imports_of(path):
        if each.module.startswith("trainer_core.") and not each.is_for_types and part_of(each.module) != own:
            place = f"{name_of(path)}:{each.line} imports {each.module}"
            assert layer_of(part_of(each.module)) < layer_of(own), f"{place}, a sibling or a part further down"


@pytest.mark.parametrize("path", shipped_files("trainer_core", "nodes"), ids=name_of)
def test_inside_the_pack_imports_are_relative(path):
    # ComfyUI loads the pack under a mangled name: an absolute import finds nothing, or loads everything twice.
    own = {"trainer_core", "nodes", "scripts", "install"}
    for each in imports_of(path):
        is_ours = each.module.split(".")[0] in own
        assert each.is_relative or not is_ours, f"{name_of(path)}:{each.line} imports {each.module} by its full name"


@pytest.mark.parametrize("path", shipped_files("trainer_core", "nodes", "scripts"), ids=name_of)
def test_only_a_hosts_own_file_imports_it(path):
    for each in imports_of(path):
        for host, (modules, places) in HOSTS.items():
            if not each.is_relative and each.module.split(".")[0] in modules:
                place = f"{name_of(path)}:{each.line} imports {each.module}, which is {host}'s"
                assert name_of(path).startswith(places), f"{place}; only {' and '.join(places)} may"


@pytest.mark.parametrize("path", shipped_files("nodes", "scripts"), ids=name_of)
def test_a_host_s_front_uses_no_other_host(path):
    own = "comfy" if name_of(path).startswith("nodes/") else "webui"
    not_for_hosts = {"bench", "cli", "demo", "docs_table", "flags"}
    for each in imports_of(path):
        if "trainer_core." in each.module:
            part, *rest = each.module[each.module.index("trainer_core.") :].split(".")[1:]
            assert part not in not_for_hosts, f"{name_of(path)}:{each.line} imports {each.module}"
            if part == "hosts" and rest:
                assert rest[0].startswith((own, "base")), f"{name_of(path)}:{each.line} imports {each.module}"


def test_importing_the_trainer_needs_and_loads_nothing_heavy():
    # comfy's own files and the webui's may import their host at the top; nobody else does.
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in shipped_files("trainer_core")
        if path.name != "__main__.py"
    ]
    program = f"""
import importlib, sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(name + " is not for import time", name=name)

import torch, numpy, PIL.Image, safetensors.torch
before = set(sys.modules)
sys.meta_path.insert(0, Refusing())
for module in {modules!r}:
    importlib.import_module(module)
others = {{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(sorted(others - {LIGHT | {"trainer_core"}!r}))
"""
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == "[]"


def test_importing_the_pack_outside_comfyui_loads_no_nodes():
    program = "import importlib.util as u, sys; s = u.spec_from_file_location('pack.x', '__init__.py'); "
    program += "m = u.module_from_spec(s); sys.modules['pack.x'] = m; s.loader.exec_module(m); "
    program += "print(m.WEB_DIRECTORY, hasattr(m, 'comfy_entrypoint'), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-I", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.strip() == "./web False False", said.stderr


@pytest.mark.parametrize("folder", ["nodes", "scripts", "tests", "web"])
def test_folders_with_common_names_are_no_packages(folder):
    # A1111 and Forge put our root on sys.path: a package `nodes` or `web` would shadow theirs.
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("path", shipped_files("trainer_core", "nodes", "scripts"), ids=name_of)
def test_nothing_newer_than_python_3_10_is_used(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    newer = {"tomllib", "wsgiref.types", "_interpreters", "annotationlib", "pathlib.types"}
    for each in imports_of(path):
        assert each.module not in newer, f"{name_of(path)}:{each.line} imports {each.module}"


def test_the_installer_can_be_read_by_an_old_python():
    ast.parse((ROOT / "install.py").read_text(encoding="utf-8"), feature_version=(3, 6))
