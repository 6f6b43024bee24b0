"""Set LazyLoRA up. Needs nothing but Python itself.

python install.py demo   teach a very small model a new character and compare every epoch, in a private .venv
python install.py test   run the whole test suite, in the same .venv
python install.py        what ComfyUI-Manager, A1111 and Forge call: add the few small packages that the UI lacks

What follows demo or test is handed on: `python install.py test -k buckets`.
"""
# Kept readable for Python 3.6, so that an old Python gets a sentence instead of a SyntaxError.

import collections
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "lazylora.json"
COMMANDS = {"demo": ("trainer_core", "demo"), "test": ("pytest",)}
# What follows where nothing is handed on: the whole suite, by two workers that take a file each.
UNASKED = {"test": ("-n", "2", "--dist", "loadfile")}
OLDEST, NEWEST = (3, 10), (3, 13)

# What every host brings. Never installed, upgraded or reinstalled by us.
FROM_THE_HOST = ("torch", "numpy", "pillow", "safetensors")
# What a host may lack: small and pure Python. They need nothing that is not there, so pip adds just the one.
PURE_PACKAGES = ("filelock>=3.9", "tqdm>=4.60", "tomlkit>=0.12", "dadaptation>=3.1", "prodigyopt>=1.0")
# Comes with a few small ones of its own; A1111 and Forge have it already, with Gradio.
COMPILED_PACKAGES = ("matplotlib>=3.7",)
# test_install.py holds all these lists against pyproject.toml.
SMALL_PACKAGES = (*PURE_PACKAGES, *COMPILED_PACKAGES)

QUIET = ("--disable-pip-version-check", "--progress-bar", "off")
OFFLINE_SIGNS = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ProxyError",
    "Network is unreachable",
    "getaddrinfo failed",
    "Temporary failure in name resolution",
)


class SetupError(Exception):
    """Setting up cannot go on; the message names the cure."""


def main(arguments):
    """Run one command; gives the exit code of what it ran."""
    if not arguments:
        return install_for_host()
    command = arguments[0]
    if command not in COMMANDS:
        print(__doc__.strip())
        return 0 if command in ("-h", "--help", "help") else 2
    try:
        if not is_supported(sys.version_info):
            return hand_over_to(another_python(), arguments)
        python = ready_environment(command)
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped; the next call starts over where that is needed.")
        return 130
    return run([str(python), "-m", *COMMANDS[command], *(arguments[1:] or UNASKED.get(command, ()))])


# -- the private environment of demo and test --------------------------------------------------------------------


def ready_environment(extra):
    """The Python of a .venv that holds what `extra` needs: the one that is there, brought up to date, or a new one."""
    python = environment_python()
    stamp = read_stamp()
    if not stamp or not can_train(python):
        make_environment()
        stamp = {"extras": []}
    elif stamp["wanted"] == fingerprint() and extra in stamp["extras"]:
        say("using the environment in .venv")
        return python
    extras = sorted({extra, *stamp["extras"]})
    say(f"installing what {' and '.join(extras)} need into .venv; the first time takes minutes, mostly for torch")
    # Without a stamp, an installation that is cut short counts as broken and is made anew.
    remove_file(STAMP)
    pip_install(python, "pip>=22.3")  # older ones cannot install a project that has no setup.py
    pip_install(python, "--constraint", "constraints.txt", "--editable", f".[{','.join(extras)}]")
    STAMP.write_text(json.dumps({"wanted": fingerprint(), "extras": extras}))
    return python


def make_environment():
    """A fresh .venv with pip in it, by whichever tool this Python has for that."""
    if ENVIRONMENT.exists():
        say("the environment in .venv is broken or was not finished: making it anew")
        shutil.rmtree(str(ENVIRONMENT))
    say(f"making .venv with Python {python_name()}")
    problem = ""
    for maker in environment_makers():
        code, problem = run_and_read([*maker, str(ENVIRONMENT)], echo=False)
        if code == 0 and run_quietly([str(environment_python()), "-m", "pip", "--version"]):
            return
        shutil.rmtree(str(ENVIRONMENT), ignore_errors=True)
    raise SetupError(
        f"{problem.strip()}\nThis Python ({sys.executable}) cannot make virtual environments. On Debian and Ubuntu: "
        "sudo apt install python3-venv; elsewhere install Python from python.org, or `pip install virtualenv`."
    )


def environment_makers():
    """Commands that make a virtual environment in the folder that follows them, the plainest first."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        yield [sys.executable, "-m", "venv"]
    if importlib.util.find_spec("virtualenv"):
        yield [sys.executable, "-m", "virtualenv", "--python", sys.executable]
    if shutil.which("uv"):
        yield ["uv", "venv", "--seed", "--python", sys.executable]


def environment_python():
    """Where the interpreter of .venv is, or will be."""
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def can_train(python):
    """Whether the environment's interpreter starts and finds the package that an interrupted download leaves out."""
    return python.exists() and run_quietly([str(python), "-c", "import pip, torch"])


def read_stamp():
    """What was installed into .venv and from which files; empty where that is not known."""
    try:
        stamp = json.loads(STAMP.read_text())
        return stamp if {"wanted", "extras"} <= set(stamp) else {}
    except (OSError, ValueError, TypeError):
        return {}


def fingerprint():
    """Changes whenever the files that say what to install change."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


# -- which Python ------------------------------------------------------------------------------------------------


def is_supported(version):
    """Whether demo and test are known to run on this Python."""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def another_python():
    """The command of a supported Python on this machine; raises SetupError where there is none."""
    for minor in (12, 11, 13, 10):
        launcher = ["py", f"-3.{minor}"] if os.name == "nt" else [f"python3.{minor}"]
        if shutil.which(launcher[0]) and run_quietly([*launcher, "-c", ""]):
            return launcher
    raise SetupError(
        f"LazyLoRA runs on Python 3.{OLDEST[1]} to 3.{NEWEST[1]}; this is Python {python_name()} ({sys.executable}) "
        "and no other was found. Install Python 3.12 from python.org, then run this again."
    )


def hand_over_to(launcher, arguments):
    """Run this same file with a Python that is supported."""
    say(f"this is Python {python_name()}; going on with {' '.join(launcher)}")
    return run([*launcher, str(ROOT / "install.py"), *arguments])


def python_name():
    """The running Python's version, e.g. 3.11.7."""
    return "{}.{}.{}".format(*sys.version_info[:3])


# -- inside a host -----------------------------------------------------------------------------------------------


def install_for_host():
    """Add the small packages that this Python lacks and change nothing that is there. Always 0: the UI has to start."""
    if sys.version_info[:2] < OLDEST:
        say(f"needs Python 3.{OLDEST[1]} or newer; this UI runs on Python {python_name()}.")
        return 0
    versions = installed_versions()
    lacking = [name for name in FROM_THE_HOST if name not in versions]
    if lacking:
        say(
            f"this Python has no {' and no '.join(lacking)}, so it is not a UI's. "
            "To try LazyLoRA without a UI: python install.py demo"
        )
        return 0
    missing = [package for package in SMALL_PACKAGES if project_name(package) not in versions]
    if not missing:
        say("everything is there.")
        return 0
    say(f"adding {', '.join(missing)}; no installed package is changed")
    with tempfile.TemporaryDirectory() as folder:
        frozen = Path(folder) / "installed.txt"
        frozen.write_text("".join(frozen_line(name, version) for name, version in sorted(versions.items())))
        # One by one, so that what one of them lacks does not keep the others away.
        failed = [package for package in missing if not add_to_host(package, frozen)]
    if failed:
        say(
            f"could not add {', '.join(failed)}; the UI starts without and LazyLoRA says so where it is needed. "
            f"Later, with a network: {sys.executable} {ROOT / 'install.py'}"
        )
    return 0


def installed_versions():
    """Every installed package's version by its normalized name; of two copies the one that Python imports."""
    import importlib.metadata

    versions = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name and distribution.version:
            versions.setdefault(project_name(name), distribution.version)
    return versions


def frozen_line(name, version):
    """A constraint that lets pip keep this package as it is, and nothing else."""
    # A version that is not of PEP 440's form (a vendor's own build) can only be matched as text.
    is_regular = re.match(r"^[0-9]+(\.[0-9]+)*((a|b|rc|\.post|\.dev)[0-9]+)*(\+[a-zA-Z0-9.]+)?$", version)
    return f"{name}{'==' if is_regular else '==='}{version}\n"


def project_name(requirement):
    """The normalized name that a requirement or a package's metadata begins with."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement).group()).lower()


def add_to_host(package, frozen):
    """Install one package beside what is there. False, with pip's own words on the screen, where that fails."""
    if importlib.util.find_spec("pip"):
        installer = [sys.executable, "-m", "pip", "install", *QUIET, "--retries", "1", "--timeout", "15"]
    elif shutil.which("uv"):
        installer = ["uv", "pip", "install", "--python", sys.executable]
    else:
        say(f"this Python has neither pip nor uv to install {package} with.")
        return False
    alone = ["--no-deps"] if package in PURE_PACKAGES else []
    code, words = run_and_read([*installer, *alone, "--constraint", str(frozen), package])
    if code and is_offline(words):
        say(f"no network: {package} is not there yet.")
    return code == 0


# -- running other programs --------------------------------------------------------------------------------------


def pip_install(python, *what):
    """pip install into .venv, shown as it goes; raises SetupError with the cure."""
    code, words = run_and_read([str(python), "-m", "pip", "install", *QUIET, *what])
    if code == 0:
        return
    if is_offline(words):
        raise SetupError("the packages cannot be downloaded: no connection. Connect to a network, then run this again.")
    if "No space left on device" in words:
        raise SetupError("the disk is full: .venv takes about 2 GB, 6 GB with CUDA. Make room, then run this again.")
    raise SetupError("pip could not install the packages; its last lines above say why. Then run this again.")


def is_offline(words):
    """Whether pip's output says that the network was not reached."""
    return any(sign in words for sign in OFFLINE_SIGNS)


def run(argv):
    """Run a program in the project's folder; gives its exit code."""
    try:
        return subprocess.call(argv, cwd=str(ROOT), env=clean_environment())
    except KeyboardInterrupt:
        return 130


def run_quietly(argv):
    """Whether a program starts and succeeds."""
    try:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        return subprocess.call(argv, cwd=str(ROOT), env=clean_environment(), **silent) == 0
    except OSError:
        return False


def run_and_read(argv, echo=True):
    """Run a program, showing what it says; gives its exit code and the last of its words."""
    words = collections.deque(maxlen=200)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    try:
        process = subprocess.Popen(argv, cwd=str(ROOT), env=clean_environment(), **pipes)
    except OSError as error:
        return 1, str(error)
    for line in process.stdout:
        words.append(line.decode("utf-8", "replace"))
        if echo:
            print("  " + words[-1].rstrip().encode("ascii", "replace").decode(), flush=True)
    return process.wait(), "".join(words)


def clean_environment():
    """The environment without what would send pip or Python to another place than the one meant."""
    astray = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_FORCE_REINSTALL", "PIP_UPGRADE")
    return {name: value for name, value in os.environ.items() if name not in astray}


def remove_file(path):
    """Remove a file that may not be there."""
    if path.exists():
        path.unlink()


def say(sentence):
    """One line to the person, or into the host's log."""
    print("LazyLoRA: " + sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
