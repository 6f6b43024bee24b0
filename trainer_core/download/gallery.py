"""Downloads through gallery-dl: pictures with their tags as captions, under names of our own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..data.names import printable
from ..data.pictures import inspect_picture, read_bytes, true_suffix
from ..data.sidecars import tags_of_sidecar
from ..errors import DataError
from ..files.atomic import write_atomically
from .addresses import check_public
from .config import DownloadConfig
from .sites import SITES, address_of

_GUARDED = Path(__file__).with_name("guarded.py")
_RATE = re.compile(r"\d{1,6}[kKmM]?")
_WANTED = "extension in ('jpg', 'jpeg', 'png', 'webp', 'gif', 'avif', 'bmp')"  # no films, no archives
_LARGEST = "64M"


@dataclass(frozen=True)
class Downloaded:
    """One picture that came: its file, its caption, "" where the site said no tags; or why it was left out."""

    path: Path | None
    caption: str = ""
    trouble: str = ""


def download(
    config: DownloadConfig, folder: Path, gallery_config: Path | None = None, *, is_public_only: bool = True
) -> Iterator[Downloaded]:
    """Download into `folder`, which is made, yielding each picture when it is there; closing the generator stops.

    A picture is called by its site and content, `danbooru_0a1b….png`, never by what the site calls it, and its tags are
    the caption beside it, where there is none yet. What came before is not asked for again: the list of it, and what is
    still to be checked, lie in `folder/.lazylora/download`. gallery_config: a file of gallery-dl's settings, for sites
    that want a key. is_public_only: False for tests alone. Raises DataError without gallery-dl, for an address that is
    not public, and where nothing can be downloaded."""
    if importlib.util.find_spec("gallery_dl") is None:
        raise DataError("downloading needs gallery-dl; pip install gallery-dl")
    if not _RATE.fullmatch(config.limit_rate):
        raise DataError(f"limit_rate {config.limit_rate!r} is no rate; write 500k or 4M")
    address = address_of(config)
    if is_public_only:
        check_public(address)
    waiting = folder / ".lazylora" / "download"
    try:
        waiting.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error.strerror}); choose another folder") from error
    came = False
    try:
        for _ in _run(_arguments(config, address, waiting, gallery_config), is_public_only):
            for each in _taken(waiting, folder, config):
                came = True
                yield each
    except DataError as error:
        if not came:
            raise
        yield Downloaded(None, trouble=str(error))  # one file that is gone is no reason to lose sight of the others
    if not came and not any(folder.glob(f"{_prefix(config)}_*.*")):
        raise DataError(f"{address} has no pictures; check the tags on the site")


def _arguments(config: DownloadConfig, address: str, waiting: Path, gallery_config: Path | None) -> list[str]:
    settings = ["--config", str(gallery_config)] if gallery_config is not None else []
    return [
        "--config-ignore",
        *settings,
        *("--no-input", "--no-colors", "--no-mtime", "--write-metadata"),
        *("--directory", str(waiting), "--filename", "{category}_{id|filename!s:.60}.{extension}"),
        *("--restrict-filenames", "ascii"),
        *("--download-archive", str(waiting / "archive.sqlite3"), "--range", f"1-{config.limit}"),
        *("--filter", _WANTED, "--filesize-max", _LARGEST, "--limit-rate", config.limit_rate),
        *("--sleep", str(config.pause_seconds), "--sleep-request", str(config.pause_seconds)),
        *("--retries", "2", "-o", "downloader.ytdl.enabled=false"),
        address,
    ]


def _run(arguments: Sequence[str], is_public_only: bool) -> Iterator[None]:
    """Run gallery-dl; one yield for every line that it prints, which is a file's name, and one at the end."""
    rule = "public" if is_public_only else "any"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, str(_GUARDED), rule, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:replace"},
        )
        try:
            assert process.stdout is not None
            for _ in process.stdout:
                yield
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        yield
        if code:
            raise DataError(f"the download ended early ({_last_error(said)}); run it again to go on")


def _last_error(said: IO[str]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said if line.strip()]
    errors = [line for line in lines if "[error]" in line] or lines
    return printable(errors[-1])[:300] if errors else "without a word"


def _taken(waiting: Path, folder: Path, config: DownloadConfig) -> Iterator[Downloaded]:
    """Check and move each waiting picture that is complete with its JSON, which gallery-dl writes after it."""
    for sidecar in sorted(waiting.glob("*.json")):
        picture = sidecar.with_suffix("")
        if picture.is_symlink() or not picture.is_file():
            continue
        try:
            yield _moved(picture, sidecar, folder, config)
        except DataError as error:
            yield Downloaded(None, trouble=str(error))
        finally:
            for each in (picture, sidecar):
                with suppress(OSError):
                    each.unlink()


def _moved(picture: Path, sidecar: Path, folder: Path, config: DownloadConfig) -> Downloaded:
    digest = inspect_picture(picture).digest
    data = read_bytes(picture)
    path = folder / f"{_prefix(config)}_{digest[:16]}{true_suffix(data, picture)}"
    try:
        caption = tags_of_sidecar(sidecar.read_text(encoding="utf-8", errors="replace"), picture.name)
    except (DataError, OSError):
        caption = ""
    write_atomically(path, lambda place: place.write_bytes(data))
    beside = path.with_suffix(".txt")
    if caption and not beside.exists():
        write_atomically(beside, lambda place: place.write_text(caption + "\n", encoding="utf-8"))
    return Downloaded(path, caption)


def _prefix(config: DownloadConfig) -> str:
    site = config.site.strip().lower()
    return site if site in SITES else "web"
