"""A folder with every fault that a downloaded dataset can have, made anew where a test wants it."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

ORIENTATION = 0x0112


def make_messy(root: Path) -> Path:
    """Fill `root` with kohya folders of sound and faulty pictures; needs a POSIX file system.

    `4_cat`: pictures of every kind that can be trained, ten of them. `1_dog`: two, of which one has no caption.
    Beside them every fault: files that are no picture, links in circles, captions that cannot be read."""
    cats, dogs = root / "4_cat", root / "1_dog"
    for folder in (cats, dogs, root / "not trained"):
        folder.mkdir(parents=True)
    for number, name in enumerate(SOUND):
        SOUND[name](_drawn(number), cats / name)
    captions = ["cat, blue eyes, hat, tree", "cat, red eyes, hat, tree", "cat, hat, grass", "cat, hat"]
    for number, name in enumerate(sorted(SOUND)[:-2]):
        (cats / name).with_suffix(".txt").write_text(captions[number % 4])
    (cats / sorted(SOUND)[-2]).with_suffix(".txt").write_text("")
    (cats / sorted(SOUND)[-1]).with_suffix(".caption").write_bytes("chat, caf\xe9".encode("latin-1"))
    Image.open(cats / "a.png").convert("RGB").resize((90, 66)).save(cats / "copy of a.jpg")
    _drawn(40).save(dogs / "d.png")
    (dogs / "d.png.json").write_text(json.dumps({"tags_general": "dog long_ears", "tags_character": "rex_(film)"}))
    _drawn(41).save(dogs / "e.png")
    for name, (_, make) in BAD.items():
        make(cats / name)
    for number, (name, (_, make)) in enumerate(BAD_CAPTIONS.items()):
        _drawn(50 + number).save((dogs / f"bad {name}").with_suffix(".png"))
        make(dogs / f"bad {name}")
    _drawn(60).save(root / "loose.png")
    _drawn(61).save(root / "not trained" / "x.png")
    os.symlink(root, root / "round")
    return root


def _drawn(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """A picture of its own, unlike all others."""
    dice = np.random.default_rng(seed)
    blocks = Image.fromarray(dice.integers(0, 255, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.NEAREST)
    grain = dice.integers(-9, 10, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(blocks, np.int16) + grain).clip(0, 255).astype(np.uint8))


def _on_its_side(picture: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture.save(path, exif=exif)


def _transparent(picture: Image.Image, path: Path) -> None:
    picture.putalpha(picture.convert("L"))
    picture.save(path)


def _sixteen_bits(picture: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(path)


def _animated(picture: Image.Image, path: Path) -> None:
    picture.save(path, save_all=True, append_images=[picture.rotate(180)])


SOUND: dict[str, Callable[[Image.Image, Path], object]] = {
    "a.png": lambda picture, path: picture.save(path),
    "b.jpg": _on_its_side,
    "c.png": _transparent,
    "d.png": _sixteen_bits,
    "e.jpg": lambda picture, path: picture.convert("CMYK").save(path),
    "f.gif": _animated,
    "g.webp": lambda picture, path: picture.save(path),
    "h.png": lambda picture, path: picture.resize((400, 40)).save(path),
    "i.png": lambda picture, path: picture.resize((400, 300)).filter(ImageFilter.GaussianBlur(9)).save(path),
}


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
