"""Whether a picture does what its prompt asked for around the mascot: background colour, stripes, scene, place."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from .backdrops import SCENES, Backdrop, draw_backdrop
from .canvas import PALETTE
from .likeness import Fit
from .world import POSITIONS

# of 255; a scene's surfaces are further apart than this, a VAE's round trip nearer
SAME_COLOUR = 48.0


def backdrop_obedience(picture: Image.Image, asked: Backdrop, mask: np.ndarray) -> float:
    """How far the picture outside the mask is the backdrop that was asked for, 0..1.

    plain: the share of pixels whose nearest palette colour it is. stripes: both colours there, in upright bands.
    dots: both colours there. landscapes: the share of pixels that have the landscape's colour in their place."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    outside = _outside(mask)
    if outside.sum() < 64:
        return 0.0
    if asked.kind in SCENES:
        drawn = np.asarray(draw_backdrop(asked).finish(), dtype=np.float32)
        distance = np.linalg.norm(pixels - drawn, axis=-1)[outside]
        return float((distance < SAME_COLOUR).mean())
    names = nearest_colours(pixels)
    if asked.kind == "plain":
        return float((names == asked.colours[0])[outside].mean())
    both = _both_colours(names, asked, outside)
    return both * _upright(names == asked.colours[0], outside) if asked.kind == "stripes" else both


def position_obedience(fit: Fit, position: str) -> bool:
    """Whether the fitted mascot stands nearer to the asked place ("on the left") than to any other place."""
    x, y = fit.pose.x, fit.pose.y
    nearest = min(POSITIONS, key=lambda name: (POSITIONS[name][0] - x) ** 2 + (POSITIONS[name][1] - y) ** 2)
    return nearest == position


def nearest_colours(pixels: np.ndarray) -> np.ndarray:
    """The palette's name for every pixel. pixels: [...,3] in 0..255 → [...] of str."""
    palette = np.array(list(PALETTE.values()), dtype=np.float32)
    distance = np.square(pixels[..., None, :] - palette).sum(axis=-1)
    return np.array(list(PALETTE))[distance.argmin(axis=-1)]


def _outside(mask: np.ndarray, margin: int = 2) -> np.ndarray:
    # the edge of a character is neither character nor background
    grown = Image.fromarray((mask > 0.05).astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * margin + 1))
    return np.asarray(grown) == 0


def _both_colours(names: np.ndarray, asked: Backdrop, outside: np.ndarray) -> float:
    drawn = nearest_colours(np.asarray(draw_backdrop(asked).finish(), dtype=np.float32))
    found = [(names == colour)[outside].mean() for colour in asked.colours]
    expected = [max((drawn == colour)[outside].mean(), 1e-3) for colour in asked.colours]
    return float(min(1.0, *(f / e for f, e in zip(found, expected))))


def _upright(first_colour: np.ndarray, outside: np.ndarray) -> float:
    """Between-column share of the variance of "is the first colour": 1 for upright bands, near 0 for a mixture."""
    values = first_colour.astype(np.float32)
    total = values[outside].var()
    if total < 1e-3:
        return 0.0
    columns = [x for x in range(values.shape[1]) if outside[:, x].sum() >= 8]
    within = np.average(
        [values[outside[:, x], x].var() for x in columns], weights=[outside[:, x].sum() for x in columns]
    )
    return float(max(0.0, 1 - within / total))
