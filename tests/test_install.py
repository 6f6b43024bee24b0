"""install.py with a stand-in for pip: what it would run, what it says, and what it never does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def install(monkeypatch, tmp_path):
    """install.py as a module, working in a folder of its own, with no program ever started."""
    import install

    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "ENVIRONMENT", tmp_path / ".venv")
    monkeypatch.setattr(install, "STAMP", tmp_path / ".venv" / "lazylora.json")
    monkeypatch.setattr(install.subprocess, "Popen", None)
    monkeypatch.setattr(install.subprocess, "call", None)
    return install


class Programs:
    """Stands in for the programs that install.py starts; `venv` makes an interpreter, pip answers as told."""

    def __init__(self, install, monkeypatch):
        self.install, self.started, self.pip_says, self.exit_code = install, [], (0, ""), 0
        monkeypatch.setattr(install, "run_and_read", self.run_and_read)
        monkeypatch.setattr(install, "run_quietly", self.run_quietly)
        monkeypatch.setattr(install, "run", self.run)

    def run_and_read(self, argv, echo=True):
        self.started.append(argv)
        if "venv" in argv:
            python = self.install.environment_python()
            python.parent.mkdir(parents=True)
            python.touch()
            return 0, ""
        return self.pip_says

    def run_quietly(self, argv):
        return True

    def run(self, argv):
        self.started.append(argv)
        return self.exit_code

    def said(self, *words):
        """The started command lines that hold all these words."""
        return [argv for argv in self.started if set(words) <= set(argv)]


@pytest.fixture
def programs(install, monkeypatch):
    return Programs(install, monkeypatch)


@pytest.fixture
def host(install, monkeypatch):
    """A UI's Python with the named packages in it; the result records what was installed beside what."""

    versions = {"torch": "2.3.1+cu121", "numpy": "1.26.4", "pillow": "9.5.0", "safetensors": "0.4.2"}
    host = SimpleNamespace(versions=versions, asked=[], frozen=[], answer=(0, ""))

    def record(argv, echo=True):
        host.asked.append(argv)
        host.frozen.append(Path(argv[argv.index("--constraint") + 1]).read_text())
        return host.answer

    monkeypatch.setattr(install, "installed_versions", lambda: host.versions)
    monkeypatch.setattr(install, "run_and_read", record)
    return host


# -- demo and test


def test_the_first_call_makes_an_environment_installs_the_extra_and_runs(install, programs):
    assert install.main(["test", "-k", "buckets"]) == 0
    python = str(install.environment_python())
    assert programs.said("-m", "venv")
    assert programs.said("--constraint", "constraints.txt", "--editable", ".[test]")
    assert programs.started[-1] == [python, "-m", "pytest", "-k", "buckets"]


def test_the_whole_suite_is_shared_by_two_workers(install, programs):
    install.main(["test"])
    assert programs.started[-1][1:] == ["-m", "pytest", "-n", "2", "--dist", "loadfile"]


def test_the_second_call_only_runs(install, programs):
    install.main(["demo"])
    programs.started.clear()
    assert install.main(["demo"]) == 0
    assert programs.started == [[str(install.environment_python()), "-m", "trainer_core", "demo"]]


def test_the_other_command_adds_its_extra_to_the_same_environment(install, programs):
    install.main(["demo"])
    programs.started.clear()
    install.main(["test"])
    assert not programs.said("-m", "venv")
    assert programs.said("--editable", ".[demo,test]")


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_brings_the_environment_up_to_date(install, programs, name):
    install.main(["demo"])
    programs.started.clear()
    (install.ROOT / name).write_text("changed")
    install.main(["demo"])
    assert programs.said("--editable", ".[demo]")
    assert not programs.said("-m", "venv")


@pytest.mark.parametrize("damage", ["no stamp", "a stamp of nonsense", "no interpreter", "an interpreter that fails"])
def test_a_broken_environment_is_made_anew(install, programs, monkeypatch, damage, capsys):
    install.main(["demo"])
    programs.started.clear()
    if damage == "no stamp":
        install.STAMP.unlink()
    elif damage == "a stamp of nonsense":
        install.STAMP.write_text("[1")
    elif damage == "no interpreter":
        install.environment_python().unlink()
    else:
        answers = iter([False])
        monkeypatch.setattr(install, "run_quietly", lambda argv: next(answers, True))
    install.main(["demo"])
    assert programs.said("-m", "venv")
    assert programs.said("--editable", ".[demo]")
    assert "making it anew" in capsys.readouterr().out


def test_an_installation_that_fails_leaves_no_stamp_and_its_exit_code(install, programs, capsys):
    programs.pip_says = (1, "ERROR: No matching distribution")
    assert install.main(["test"]) == 1
    assert not install.STAMP.exists()
    assert "pip could not install" in capsys.readouterr().out


@pytest.mark.parametrize("sign", ["NewConnectionError('…')", "[Errno 11001] getaddrinfo failed", "ProxyError"])
def test_without_a_network_one_sentence_says_so(install, programs, capsys, sign):
    programs.pip_says = (1, sign)
    assert install.main(["demo"]) == 1
    assert "no connection. Connect to a network" in capsys.readouterr().out


def test_a_python_without_venv_gets_the_cure(install, programs, monkeypatch, capsys):
    monkeypatch.setattr(install, "environment_makers", lambda: [])
    assert install.main(["test"]) == 1
    assert "sudo apt install python3-venv" in capsys.readouterr().out


@pytest.mark.parametrize("exit_code", [0, 1, 5])
def test_the_exit_code_is_the_suite_s(install, programs, exit_code):
    programs.exit_code = exit_code
    assert install.main(["test"]) == exit_code


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0), (2, 7, 18)])
def test_another_python_is_found_for_one_that_is_not_supported(install, programs, monkeypatch, version):
    monkeypatch.setattr(install.sys, "version_info", version)
    monkeypatch.setattr(install.shutil, "which", lambda name: name)
    assert install.main(["demo"]) == 0
    assert [argv[1:] for argv in programs.started] == [[str(install.ROOT / "install.py"), "demo"]]


def test_without_a_supported_python_one_sentence_says_which_to_install(install, programs, monkeypatch, capsys):
    monkeypatch.setattr(install.sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    assert install.main(["demo"]) == 1
    assert "runs on Python 3.10 to 3.13; this is Python 3.9.18" in capsys.readouterr().out


@pytest.mark.parametrize(("argument", "exit_code"), [("--help", 0), ("dmeo", 2)])
def test_anything_else_is_answered_with_the_usage(install, programs, capsys, argument, exit_code):
    assert install.main([argument]) == exit_code
    assert "python install.py demo" in capsys.readouterr().out
    assert not programs.started


# -- in a host


def test_a_host_gets_only_what_it_lacks_and_everything_it_has_is_frozen(install, host):
    lacking = ["dadaptation>=3.1", "matplotlib>=3.7"]
    host.versions |= {install.project_name(each): "9.0" for each in install.SMALL_PACKAGES if each not in lacking}
    assert install.main([]) == 0
    assert [argv[-1] for argv in host.asked] == lacking
    # nothing else comes with a pure one; matplotlib has needs of its own, which Gradio's hosts meet already
    assert ["--no-deps" in argv for argv in host.asked] == [True, False]
    for frozen in host.frozen:
        lines = frozen.splitlines()
        assert "torch==2.3.1+cu121" in lines
        assert "numpy==1.26.4" in lines
        assert len(lines) == len(host.versions)


def test_a_host_that_has_everything_is_left_alone(install, host, capsys):
    host.versions |= {install.project_name(each): "9.0" for each in install.SMALL_PACKAGES}
    assert install.main([]) == 0
    assert host.asked == []


@pytest.mark.parametrize("package", ["torch", "numpy", "pillow", "safetensors"])
def test_a_python_without_the_host_s_packages_gets_nothing(install, host, capsys, package):
    # pip would bring its own torch or numpy as somebody's dependency: nothing freezes what is not there.
    del host.versions[package]
    assert install.main([]) == 0
    assert host.asked == []
    assert f"has no {package}" in capsys.readouterr().out


def test_offline_the_host_still_starts(install, host, capsys):
    host.answer = (1, "NewConnectionError")
    assert install.main([]) == 0
    said = capsys.readouterr().out
    assert "no network" in said
    assert f"could not add {', '.join(install.SMALL_PACKAGES)};" in said


def test_a_host_without_pip_still_starts(install, host, monkeypatch, capsys):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    assert install.main([]) == 0
    assert "neither pip nor uv" in capsys.readouterr().out


def test_a_vendor_s_own_version_is_frozen_as_text(install):
    assert install.frozen_line("torch", "2.1.0a0+git-8ffb") == "torch===2.1.0a0+git-8ffb\n"
    assert install.frozen_line("torch", "2.13.0+cu130") == "torch==2.13.0+cu130\n"


def test_nothing_that_is_frozen_can_be_moved(tmp_path):
    """pip's own word for it, on this Python: it takes the frozen numpy and refuses any other."""
    import numpy

    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("this Python has no pip")
    frozen = tmp_path / "installed.txt"
    frozen.write_text(f"numpy=={numpy.__version__}\n")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--constraint", str(frozen)]
    assert subprocess.run([*pip, "numpy"], capture_output=True).returncode == 0
    assert subprocess.run([*pip, f"numpy!={numpy.__version__}"], capture_output=True).returncode != 0


# -- in a host, with a real pip


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """A wheel of one empty module, as pip finds it in a folder."""
    said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    said += "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {f"{name}.py": "", f"{name}-{version}.dist-info/METADATA": said}
    files[f"{name}-{version}.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{name}-{version}.dist-info/RECORD"] = ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


class Webui:
    """A web UI's environment with packages that consist of their names, and what its launcher does with install.py."""

    def __init__(self, folder: Path, pip: Path):
        self.root, self.wheels = folder / "webui", folder / "wheels"
        self.wheels.mkdir(parents=True)
        (self.root / "modules").mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        (self.site,) = (folder / "venv").rglob("site-packages")
        (self.site / "pip").symlink_to(pip, target_is_directory=True)
        self.python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def has(self, **versions: str) -> None:
        """Have these packages installed."""
        for name, version in versions.items():
            said = self.site / f"{name}-{version}.dist-info"
            said.mkdir()
            (said / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def packages(self) -> dict[str, str]:
        """Name and version of everything that is installed."""
        return dict(each.name.removesuffix(".dist-info").split("-") for each in self.site.glob("*.dist-info"))

    def runs_the_installer(self) -> subprocess.CompletedProcess:
        """As launch_utils.run_extension_installer does: another process, the UI's root first on the path."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        environment |= {"PYTHONPATH": str(self.root), "PIP_CONFIG_FILE": os.devnull}
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        command = [str(self.python), str(ROOT / "install.py")]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)


@pytest.fixture
def webui(tmp_path):
    pip = pytest.importorskip("pip", reason="this Python has no pip")
    webui = Webui(tmp_path, Path(pip.__file__).parent)
    webui.has(torch="2.1.2", numpy="1.26.2", pillow="9.5.0", safetensors="0.4.2", transformers="4.30.2", tqdm="4.66.1")
    webui.has(filelock="3.13.1", matplotlib="3.8.2")
    return webui


@pytest.mark.skipif(os.name == "nt", reason="links pip's folder, which Windows lets only developers do")
def test_a_webui_gets_what_it_lacks_alone_and_its_pins_stay(webui):
    wheel(webui.wheels, "tomlkit", "0.13")
    wheel(webui.wheels, "dadaptation", "3.2", "torch>=99", "surprise")
    wheel(webui.wheels, "prodigyopt", "1.1", "transformers>=5")
    for name, version in (("torch", "99"), ("transformers", "5"), ("surprise", "1"), ("filelock", "9"), ("tqdm", "9")):
        wheel(webui.wheels, name, version)
    before = webui.packages()
    said = webui.runs_the_installer()
    assert said.returncode == 0, said.stdout + said.stderr
    assert webui.packages() == {**before, "tomlkit": "0.13", "dadaptation": "3.2", "prodigyopt": "1.1"}
    assert "everything is there" in webui.runs_the_installer().stdout


@pytest.mark.skipif(os.name == "nt", reason="links pip's folder, which Windows lets only developers do")
def test_a_webui_without_a_network_is_left_as_it_was(webui):
    before = webui.packages()
    said = webui.runs_the_installer()
    assert (said.returncode, webui.packages()) == (0, before)
    assert "the UI starts without" in said.stdout


# -- what the files say


def project() -> dict:
    """pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_installer_and_pyproject_name_the_same_packages(install):
    names = [re.match(r"[\w.-]+", package).group() for package in project()["project"]["dependencies"]]
    assert names == [*install.FROM_THE_HOST, *map(install.project_name, install.SMALL_PACKAGES)]
    assert set(install.SMALL_PACKAGES) <= set(project()["project"]["dependencies"])


def test_users_get_lower_bounds_only():
    metadata = project()["project"]
    extras = [package for extra in metadata["optional-dependencies"].values() for package in extra]
    for package in [*metadata["dependencies"], *extras]:
        assert re.fullmatch(r"[\w.-]+(\[[\w,]+\])?(>=[\d.]+)?", package), package


def test_the_pins_cover_what_the_project_asks_for():
    metadata = project()["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {re.match(r"[\w.-]+", line).group() for line in lines if line and not line.startswith("#")}
    extras = metadata["optional-dependencies"]
    for package in [*metadata["dependencies"], *extras["cli"], *extras["demo"], *extras["test"]]:
        name = re.match(r"[\w.-]+", package).group().lower()
        assert name == "lazylora" or name in pinned, f"{name} has no pin in constraints.txt"


def test_torch_is_pinned_so_that_a_cpu_build_fits():
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_versions_agree():
    from trainer_core import __version__

    assert project()["project"]["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_continuous_integration_runs_the_readme_s_command():
    script = ROOT / ".ci" / "run"
    assert "install.py test" in script.read_text(encoding="utf-8")
    if os.name != "nt":
        assert os.access(script, os.X_OK)
