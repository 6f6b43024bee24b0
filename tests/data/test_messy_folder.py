"""One folder with every fault that a downloaded dataset can have: what is trained, and what is said."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainer_core.data.examples import Dataset, scan
from trainer_core.data.names import printable
from trainer_core.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such names and links need a POSIX file system")


def bomb(side: int) -> bytes:
    """A 1-bit PNG that claims side × side."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def _long_tail(good: Path) -> None:
    (good.parent / ("é" * 125 + ".png")).write_bytes(good.read_bytes())  # 254 bytes: as long as names can be


def _wrong_suffix(good: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(good.parent / "png_in_truth.jpg", format="PNG")


FINE: dict[str, Callable[[Path], None]] = {"é" * 125 + ".png": _long_tail, "png_in_truth.jpg": _wrong_suffix}

BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "bomb.png": ("million pixels", lambda path: path.write_bytes(bomb(40_000))),
    "truncated.jpg": ("damaged|cannot be read", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0")),
    "empty.webp": ("0 bytes", lambda path: path.write_bytes(b"")),
    "page.gif": ("as a picture", lambda path: path.write_bytes(b"<html>404</html>")),
    "program.png": ("drawing", lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")),
    "loop.png": ("broken link", lambda path: path.symlink_to(path)),
    "gone.png": ("broken link", lambda path: path.symlink_to(path.parent / "nowhere")),
    "pipe.png": ("no ordinary file", lambda path: os.mkfifo(path)),
    "line\nend.png": ("as a picture", lambda path: path.write_bytes(b"x")),
    "\x1b[31mred.png": ("as a picture", lambda path: path.write_bytes(b"x")),
    "turned\u202egnp.png": ("as a picture", lambda path: path.write_bytes(b"x")),
    os.fsdecode(b"latin\xe9.png"): ("as a picture", lambda path: path.write_bytes(b"x")),
}

BAD_CAPTIONS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a.txt": ("broken link", lambda path: path.symlink_to(path)),
    "b.txt": ("no ordinary file", lambda path: os.mkfifo(path)),
    "c.txt": ("larger than 1 MiB", lambda path: path.write_bytes(b"cat, " * 300_000)),
    "d.json": ("no valid JSON", lambda path: path.write_bytes(b"{")),
    "e.json": ("nested too deep|no valid JSON", lambda path: path.write_bytes(b"[" * 100_000)),
    "f.json": ("no JSON object", lambda path: path.write_bytes(b"[1, 2]")),
}


@pytest.fixture
def good(tmp_path: Path, draw) -> Path:
    return draw(tmp_path / "good.png", size=(64, 64))


def said(dataset: Dataset, name: str) -> list[str]:
    return [each for each in dataset.warnings if printable(name) in each]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_a_bad_picture_is_named_and_left_out_or_stops_the_run(good, configured, name):
    reason, make = BAD[name]
    make(good.parent / name)
    dataset = scan(configured())
    assert [each.name for each in dataset.examples] == [f"{good.parent.name}/good.png"]
    (sentence,) = said(dataset, name)
    assert any(word in sentence for word in reason.split("|")) and sentence.isprintable()
    sentence.encode("utf-8")
    with pytest.raises(DataError, match=reason):
        scan(configured(bad_pictures="stop"))


@pytest.mark.parametrize("name", BAD_CAPTIONS)
def test_a_bad_caption_leaves_its_picture_out_or_stops_the_run(good, draw, configured, name):
    reason, make = BAD_CAPTIONS[name]
    draw(good.with_name(name).with_suffix(".png"), seed=1)
    make(good.with_name(name))
    dataset = scan(configured())
    assert [each.path.name for each in dataset.examples] == ["good.png"]
    (sentence,) = said(dataset, f"the caption {good.parent.name}/{name}") or said(dataset, f"{good.parent.name}/{name}")
    assert any(word in sentence for word in reason.split("|"))
    with pytest.raises(DataError, match=reason):
        scan(configured(bad_pictures="stop"))
    scan(configured(bad_pictures="stop", captions="none"))


def test_all_of_it_at_once(good, draw, configured):
    (good.parent / "10_cat").mkdir()
    good = good.rename(good.parent / "10_cat" / "good.png")
    for make in FINE.values():
        make(good)
    for name, (_, make) in BAD.items():
        make(good.parent / name)
    for name, (_, make) in BAD_CAPTIONS.items():
        draw(good.with_name(name).with_suffix(".png"), seed=1)
        make(good.with_name(name))
    os.symlink(good.parent.parent, good.parent / "round")
    dataset = scan(configured())
    assert {each.path.name for each in dataset.examples} == {"good.png", *FINE}
    left_out = [each for each in dataset.warnings if each.startswith("left out")]
    assert len(left_out) == 10 + 1 + len(BAD_CAPTIONS)  # ten are named, the others counted
    assert f"{len(BAD) - 10} more pictures" in left_out[10]


def test_a_file_that_may_not_be_read_is_reported_like_the_others(good, draw, configured, monkeypatch):
    locked = draw(good.with_name("locked.png"), seed=1)
    read_bytes = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    dataset = scan(configured())
    assert len(dataset.examples) == 1 and "change its permissions" in said(dataset, "locked.png")[0]
    with pytest.raises(DataError, match=r"locked\.png may not be read"):
        scan(configured(bad_pictures="stop"))


def test_folders_in_a_circle_are_read_once(tmp_path, draw, configured):
    draw(tmp_path / "set" / "a" / "b" / "one.png")
    os.symlink(tmp_path / "set", tmp_path / "set" / "a" / "round")
    os.symlink(tmp_path / "set" / "loop", tmp_path / "set" / "loop")
    dataset = scan(configured(folder=str(tmp_path / "set")))
    assert [each.folder for each in dataset.examples] == ["a/b"]
    assert any("round is a link to a folder that is read already" in each for each in dataset.warnings)


def test_a_folder_whose_name_is_no_utf8_can_be_written_into_metadata(tmp_path, draw, configured):
    folder = tmp_path / os.fsdecode(b"3_\xe9t\xe9")
    draw(folder / "a.png")
    (example,) = scan(configured()).examples
    for text in (example.folder, example.caption, example.class_tokens, example.name):
        text.encode("utf-8")
