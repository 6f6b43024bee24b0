"""Files that are there whole or not at all, whatever interrupts the writing: a kill, a full disk, a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import RunError

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_DISK_FULL_WORDS = ("os error 28", "os error 112", "os error 122")  # how Rust, so safetensors, reports the same
_LEFTOVER_AGE_SECONDS = 3600


def write_atomically(
    path: str | os.PathLike[str],
    write: Callable[[Path], object],
    *,
    unique: bool = False,
    needed_bytes: int | None = None,
) -> None:
    """Have `write` fill a temporary file beside `path`, then move it there in one step, synced to the disk.

    A reader sees the old file or the new one, and a host that has the old one mapped keeps reading it unharmed. unique:
    never overwrite. needed_bytes: what the file takes, for the message when the disk is full. Raises RunError when
    `path` cannot be written or, with `unique`, exists; what `write` raises, but for system errors, passes through. Then
    what was at `path` is as it was and the temporary file is gone."""
    path = Path(path)
    try:
        _remove_leftovers(path.parent)
        temporary = path.parent / f".lazylora-{secrets.token_hex(6)}.tmp"
        try:
            permissions = _created_permissions(temporary)
            write(temporary)
            _sync(temporary)
            os.chmod(temporary, permissions)  # safetensors 0.8 leaves its files private to the user
            _move(temporary, path, unique)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except Exception as error:
        if _is_disk_full(error):
            raise RunError(_disk_full_message(path, needed_bytes)) from None
        if isinstance(error, FileExistsError):
            raise RunError(f"{path} exists already and is never overwritten; choose another output_name") from None
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
            raise RunError(
                f"{path} cannot be written ({reason}); close what uses it or choose another output_dir"
            ) from None
        raise


def _created_permissions(path: Path) -> int:
    """Create the file; its permissions are what the user's umask gives any new file."""
    with path.open("xb") as file:
        return os.fstat(file.fileno()).st_mode & 0o777


def _sync(path: Path) -> None:
    with path.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the move itself survive a power cut, where the system lets a folder be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _move(temporary: Path, path: Path, unique: bool) -> None:
    if not unique:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, this fails where something is already
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
        os.replace(temporary, path)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes have left; younger files may be in the middle of being written."""
    for leftover in folder.glob(".lazylora-*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_SECONDS:
                leftover.unlink()


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _DISK_FULL or getattr(error, "winerror", None) == 112
    return any(words in str(error) for words in _DISK_FULL_WORDS)


def _disk_full_message(path: Path, needed_bytes: int | None) -> str:
    free = shutil.disk_usage(path.parent).free
    needs = f"{path.name} takes {_megabytes(needed_bytes)}, " if needed_bytes else ""
    return f"{path.parent}: the disk is full ({needs}{_megabytes(free)} are free); make room and start the run again"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
