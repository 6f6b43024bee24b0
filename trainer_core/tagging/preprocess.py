"""Pictures as the taggers were trained to see them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..data.buckets import Placement
from ..data.pictures import fit_to_bucket


def tagger_input(picture: Image.Image, side: int) -> np.ndarray:
    """[side, side, 3] fp32, 0 to 255, blue first: the picture in the middle of a white square, then resized.

    Areas are averaged where it shrinks, Lanczos where it grows. Source: sd-scripts, `preprocess_image` in
    finetune/tag_images_by_wd14_tagger.py; forks that repeat edges or stretch get other tags out of the same model. The
    picture is RGB, with transparency on white already (`data.pictures.read_picture`)."""
    square = _on_white_square(picture)
    resized = fit_to_bucket(square, Placement((side, side), (side, side), (0, 0)))
    return np.asarray(resized, dtype=np.float32)[:, :, ::-1]


def centred_on_zero(pictures: np.ndarray) -> np.ndarray:
    """[B, 3, side, side] fp32, -1 to 1, from [B, side, side, 3], 0 to 255: what cl_tagger takes."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1))


def _on_white_square(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square
