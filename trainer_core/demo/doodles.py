"""Random doodles: pictures of no kind, so that the autoencoder learns to carry characters it has never seen."""

from __future__ import annotations

import math
import random

from PIL import Image

from .canvas import SIZE, Canvas, Colour, Pen


def draw_doodle(rng: random.Random) -> Image.Image:
    """A 64 x 64 heap of blobs, bands, boxes, strokes and eyes in any colours, symmetric half of the time."""
    canvas = Canvas(_any_colour(rng))
    if rng.random() < 0.3:
        y = rng.uniform(20, 56)
        canvas.rectangle(SIZE / 2, (y + SIZE) / 2, SIZE / 2, (SIZE - y) / 2, _any_colour(rng))
    for _ in range(rng.randint(2, 5)):
        pen = Pen(canvas, rng.uniform(10, 54), rng.uniform(10, 54), rng.uniform(5, 22))
        strokes = rng.randint(1, 4)
        for _ in range(strokes):
            _scribble(rng, pen, mirrored=rng.random() < 0.5)
    return canvas.finish()


def _scribble(rng: random.Random, pen: Pen, mirrored: bool) -> None:
    kind = rng.choice(("ellipse", "polygon", "ring", "rectangle", "line", "eye"))
    colour = _any_colour(rng)
    x, y = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8)
    rx, ry = rng.uniform(0.12, 0.8), rng.uniform(0.12, 0.8)
    turns = sorted(rng.uniform(0, 2 * math.pi) for _ in range(rng.randint(3, 7)))
    for side in (1, -1) if mirrored else (1,):
        if kind == "ellipse":
            pen.ellipse(side * x, y, rx, ry, colour)
        elif kind == "polygon":
            pen.polygon([(side * (x + rx * math.cos(a)), y + ry * math.sin(a)) for a in turns], colour)
        elif kind == "ring":
            pen.ring(side * x, y, rx, ry, min(rx, ry, 0.3) * 0.6, colour)
        elif kind == "rectangle":
            pen.rectangle(side * x, y, rx, ry, colour)
        elif kind == "line":
            pen.line([(side * x, y), (side * (x + rx - 0.4), y + ry - 0.4)], 0.06 + rx / 6, colour)
        else:
            pen.circle(side * x, y, 0.26, (250, 250, 250))
            pen.circle(side * x, y, 0.14, (20, 20, 25))


def _any_colour(rng: random.Random) -> Colour:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)
