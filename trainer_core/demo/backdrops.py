"""What figures stand in front of: plain colours, stripes, dots and four landscapes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .canvas import PALETTE, SIZE, Canvas, Colour

SCENES = ("night", "day", "beach", "snow")
STRIPE_WIDTH = 8

SKY: Colour = (150, 205, 250)
NIGHT_SKY: Colour = (25, 28, 85)
NIGHT_GROUND: Colour = (20, 60, 45)
GRASS: Colour = (90, 185, 80)
SEA: Colour = (40, 120, 200)
SAND: Colour = (245, 215, 140)
WINTER_SKY: Colour = (165, 185, 205)
SNOW: Colour = (245, 248, 252)
SUN: Colour = (255, 225, 70)
MOONLIGHT: Colour = (250, 245, 200)


@dataclass(frozen=True)
class Backdrop:
    """kind: "plain", "stripes", "dots" or one of SCENES; colours: one name for plain, two for stripes and dots."""

    kind: str
    colours: tuple[str, ...] = ()
    seed: int = 0


def draw_backdrop(backdrop: Backdrop) -> Canvas:
    """A canvas that the backdrop fills. Where the stars and snowflakes stand depends on its seed alone."""
    return _PAINTERS[backdrop.kind](backdrop, random.Random(backdrop.seed))


def _plain(backdrop: Backdrop, rng: random.Random) -> Canvas:
    return Canvas(PALETTE[backdrop.colours[0]])


def _stripes(backdrop: Backdrop, rng: random.Random) -> Canvas:
    first, second = (PALETTE[name] for name in backdrop.colours)
    canvas = Canvas(first)
    for left in range(STRIPE_WIDTH, SIZE, 2 * STRIPE_WIDTH):
        canvas.rectangle(left + STRIPE_WIDTH / 2, SIZE / 2, STRIPE_WIDTH / 2, SIZE / 2, second)
    return canvas


def _dots(backdrop: Backdrop, rng: random.Random) -> Canvas:
    ground, dot = (PALETTE[name] for name in backdrop.colours)
    canvas = Canvas(ground)
    for row in range(4):
        for column in range(4):
            canvas.ellipse(8 + 16 * column, 8 + 16 * row, 3.4, 3.4, dot)
    return canvas


def _night(backdrop: Backdrop, rng: random.Random) -> Canvas:
    canvas = Canvas(NIGHT_SKY)
    for _ in range(9):
        canvas.ellipse(rng.uniform(2, 62), rng.uniform(2, 42), 1.3, 1.3, MOONLIGHT)
    x, y = rng.uniform(50, 55), rng.uniform(9, 13)
    canvas.ellipse(x, y, 6.5, 6.5, MOONLIGHT)
    canvas.rectangle(32, 57, 32, 8, NIGHT_GROUND)
    return canvas


def _day(backdrop: Backdrop, rng: random.Random) -> Canvas:
    canvas = Canvas(SKY)
    canvas.ellipse(rng.uniform(9, 14), rng.uniform(9, 13), 6.5, 6.5, SUN)
    x, y = rng.uniform(42, 52), rng.uniform(9, 14)
    for dx, radius in ((-6, 3.6), (0, 5), (6, 3.6)):
        canvas.ellipse(x + dx, y, radius, radius, PALETTE["white"])
    canvas.rectangle(32, 56, 32, 10, GRASS)
    return canvas


def _beach(backdrop: Backdrop, rng: random.Random) -> Canvas:
    canvas = Canvas(SKY)
    canvas.ellipse(rng.uniform(50, 55), rng.uniform(9, 12), 6, 6, SUN)
    canvas.rectangle(32, 34, 32, 10, SEA)
    canvas.rectangle(32, 54, 32, 10, SAND)
    return canvas


def _snow(backdrop: Backdrop, rng: random.Random) -> Canvas:
    canvas = Canvas(WINTER_SKY)
    canvas.rectangle(32, 56, 32, 10, SNOW)
    for _ in range(16):
        canvas.ellipse(rng.uniform(2, 62), rng.uniform(2, 46), 1.6, 1.6, SNOW)
    return canvas


_PAINTERS: dict[str, Callable[[Backdrop, random.Random], Canvas]] = {
    "plain": _plain,
    "stripes": _stripes,
    "dots": _dots,
    "night": _night,
    "day": _day,
    "beach": _beach,
    "snow": _snow,
}
