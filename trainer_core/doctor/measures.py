"""What can be told of a picture from its pixels alone: what it looks like from afar, and how blurred it is."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..data.pictures import decode_picture

LAYOUT = 1  # raise it when a picture is measured differently: kept measures are then made anew
_LONGEST_SIDE = 512  # about what training sees; a blur that is gone at this size does not matter
_HASH_SIDE, _FREQUENCIES = 32, 8
_FLAT = 2.0  # grey levels of deviation, below which there is nothing to compare
_BLUR_WINDOW = 9
_LINES = 4  # every fourth line says as much as all of them


@dataclass(frozen=True)
class Measures:
    """looks: a 64-bit perceptual hash, None for a picture without anything in it. blur: 0 (sharp) to 1."""

    looks: int | None
    blur: float


def measure(data: bytes, path: Path) -> Measures:
    """The measures of a picture file's bytes. Raises DataError, naming `path`, for one that cannot be decoded."""
    grey = _grey(data, path)
    grey.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BILINEAR)
    return Measures(perceptual_hash(grey), blur(np.asarray(grey)))


def perceptual_hash(grey: Image.Image) -> int | None:
    """pHash: which of the 64 lowest frequencies of a 32 × 32 reduction are above their median.

    grey: mode L. Bit for bit `imagehash.phash`, the first bit the highest."""
    small = np.asarray(grey.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.LANCZOS), np.float64)
    if small.std() < _FLAT:
        return None
    waves = _low_cosines()
    low = waves @ small @ waves.T
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def blur(grey: np.ndarray) -> float:
    """How little is lost by blurring the picture again: 0 (sharp) to 1 (nothing left to lose).

    grey: [H, W], any numbers. Source: Crété et al. 2007, "The Blur Effect", with their window of 9, on a quarter of the
    lines; independent of contrast."""
    across, down = grey[::_LINES].T, grey[:, ::_LINES]
    return max(_blur_down(across.astype(np.float32)), _blur_down(down.astype(np.float32)))


def _blur_down(grey: np.ndarray) -> float:
    if len(grey) <= _BLUR_WINDOW:
        return 0.0
    sums = np.cumsum(np.pad(grey, ((_BLUR_WINDOW // 2 + 1, _BLUR_WINDOW // 2), (0, 0)), mode="edge"), axis=0)
    again = (sums[_BLUR_WINDOW:] - sums[:-_BLUR_WINDOW]) / _BLUR_WINDOW
    there, left = np.abs(np.diff(grey, axis=0)), np.abs(np.diff(again, axis=0))
    total = float(there.sum())
    return 1 - float(np.maximum(there - left, 0).sum()) / total if total > 0 else 0.0


def _low_cosines() -> np.ndarray:
    """[8, 32]: the first rows of the discrete cosine transform, type II."""
    places = (2 * np.arange(_HASH_SIDE) + 1) * np.pi / (2 * _HASH_SIDE)
    return 2 * np.cos(np.outer(np.arange(_FREQUENCIES), places))


def _grey(data: bytes, path: Path) -> Image.Image:
    if data.startswith(b"\xff\xd8"):
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.draft("L", (_LONGEST_SIDE, _LONGEST_SIDE))  # a JPEG is decoded at a fraction of its size
                return ImageOps.exif_transpose(image).convert("L")
        except Exception:  # what is wrong with it is said below, in a sentence
            pass
    return decode_picture(data, path).convert("L")
