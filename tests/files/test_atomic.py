"""A file is there whole or not at all: after an error, a kill, a full disk."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from trainer_core.errors import RunError
from trainer_core.files import atomic
from trainer_core.files.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[2]


def test_the_file_holds_what_was_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.bin", lambda file: file.write_bytes(b"new"))
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_an_existing_file_is_replaced_and_who_has_it_open_reads_on(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomically(path, lambda file: file.write_bytes(b"new"))
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_unique_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, lambda file: file.write_bytes(b"first"), unique=True)
    with pytest.raises(RunError, match="exists already"):
        write_atomically(path, lambda file: file.write_bytes(b"second"), unique=True)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_unique_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    path = tmp_path / "a.bin"
    write_atomically(path, lambda file: file.write_bytes(b"first"), unique=True)
    with pytest.raises(RunError, match="exists already"):
        write_atomically(path, lambda file: file.write_bytes(b"second"), unique=True)
    assert path.read_bytes() == b"first"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    def write_as_safetensors_does(file: Path) -> None:
        private = file.with_suffix(".private")
        private.write_bytes(b"x")
        private.chmod(0o600)
        private.replace(file)

    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a.bin", write_as_safetensors_does)
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fails(file: Path) -> None:
        file.write_bytes(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    "full", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: No space (os error 28)")]
)
def test_a_full_disk_is_said_with_numbers_and_spares_the_old_file(tmp_path: Path, full: Exception) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fails(file: Path) -> None:
        file.write_bytes(b"half")
        raise full

    with pytest.raises(RunError, match=r"disk is full \(a\.bin takes 150\.0 MB, [\d.]+ MB are free\); make room"):
        write_atomically(path, fails, needed_bytes=150_000_000)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_really_full(tmp_path: Path) -> None:
    def write_to_full(_: Path) -> None:
        with open("/dev/full", "wb") as file:
            file.write(b"x" * 100_000)

    with pytest.raises(RunError, match="disk is full"):
        write_atomically(tmp_path / "a.bin", write_to_full)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"gone.a\.bin cannot be written"):
        write_atomically(tmp_path / "gone" / "a.bin", lambda file: file.write_bytes(b""))


def test_what_killed_processes_left_is_swept_but_not_what_is_being_written(tmp_path: Path) -> None:
    stale, fresh = tmp_path / ".lazylora-aa.tmp", tmp_path / ".lazylora-bb.tmp"
    stale.touch(), fresh.touch()
    long_ago = time.time() - 2 * atomic._LEFTOVER_AGE_SECONDS
    os.utime(stale, (long_ago, long_ago))
    write_atomically(tmp_path / "a.bin", lambda file: file.write_bytes(b""))
    assert sorted(os.listdir(tmp_path)) == [".lazylora-bb.tmp", "a.bin"]


# a fork per kill: starting Python and importing anew each time would take most of the test
FORKING_WRITER = """
import os, signal, sys
from pathlib import Path
import numpy
from safetensors.numpy import save
from trainer_core.files.atomic import write_atomically
path, kills = Path(sys.argv[1]), int(sys.argv[2])
contents = [save({"x": numpy.full(1_500_000, n, dtype=numpy.float32)}) for n in range(2)]
for _ in range(kills):
    child = os.fork()
    if child == 0:
        n = 0
        while True:
            n += 1
            write_atomically(path, lambda file: file.write_bytes(contents[n % 2]))
    print("writing", flush=True)
    sys.stdin.readline()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_kill_at_any_moment_leaves_a_readable_file(tmp_path: Path) -> None:
    path, chance = tmp_path / "run.safetensors", random.Random(0)
    writer = [sys.executable, "-c", FORKING_WRITER, str(path), "12"]
    process = subprocess.Popen(writer, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout and process.stdin
    with process:
        for _ in range(12):
            assert process.stdout.readline() == "writing\n"
            time.sleep(chance.uniform(0.005, 0.15))
            process.stdin.write("kill\n")
            process.stdin.flush()
            assert process.stdout.readline() == "killed\n"
            if path.exists():
                with safe_open(path, framework="np") as file:
                    values = file.get_tensor("x")
                assert values.shape == (1_500_000,) and values.min() == values.max()
    assert path.exists()
