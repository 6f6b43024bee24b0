"""The eighteen kinds of figures that live in the tiny world, each drawn from one colour."""

from __future__ import annotations

import math
from collections.abc import Callable

from .canvas import PALETTE, Colour, Pen, Point, mix

WHITE, BLACK = PALETTE["white"], PALETTE["black"]
PINK, YELLOW, BROWN, GREEN = PALETTE["pink"], PALETTE["yellow"], PALETTE["brown"], PALETTE["green"]
GLASS: Colour = (190, 230, 250)


def draw_figure(kind: str, pen: Pen, colour: Colour) -> None:
    """Draw one figure inside the unit circle of the pen. Raises KeyError for a kind the world does not know."""
    FIGURES[kind](pen, colour)


def circle(pen: Pen, colour: Colour) -> None:
    pen.circle(0, 0, 0.95, colour)


def square(pen: Pen, colour: Colour) -> None:
    pen.rectangle(0, 0, 0.82, 0.82, colour)


def triangle(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0, -0.95), (0.98, 0.8), (-0.98, 0.8)], colour)


def diamond(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0, -1.02), (0.75, 0), (0, 1.02), (-0.75, 0)], colour)


def star(pen: Pen, colour: Colour) -> None:
    radii = [1.08 if i % 2 == 0 else 0.46 for i in range(10)]
    turns = [-math.pi / 2 + i * math.pi / 5 for i in range(10)]
    pen.polygon([(r * math.cos(a), 0.06 + r * math.sin(a)) for r, a in zip(radii, turns)], colour)


def heart(pen: Pen, colour: Colour) -> None:
    outline: list[Point] = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        outline.append((x / 16.5, -(y + 2.5) / 15.5))
    pen.polygon(outline, colour)


def ring(pen: Pen, colour: Colour) -> None:
    pen.ring(0, 0, 0.98, 0.98, 0.36, colour)


def moon(pen: Pen, colour: Colour) -> None:
    outer = [(a, 0.0, 1.0) for a in _arc(60, 300)]
    inner = [(a, 0.5, 0.87) for a in reversed(_arc(95, 265))]
    pen.polygon([(0.25 + dx + r * math.cos(a), r * math.sin(a)) for a, dx, r in outer + inner], colour)


def cat(pen: Pen, colour: Colour) -> None:
    for side in (-1, 1):
        pen.polygon([(side * 0.92, -1.0), (side * 0.9, 0.05), (side * 0.12, -0.5)], colour)
        pen.polygon([(side * 0.8, -0.74), (side * 0.76, -0.25), (side * 0.4, -0.48)], PINK)
    pen.ellipse(0, 0.2, 0.98, 0.76, colour)
    _eyes(pen, x=0.42, y=0.06, radius=0.25, pupil=0.15)
    pen.polygon([(-0.15, 0.38), (0.15, 0.38), (0, 0.56)], PINK if colour != PINK else BLACK)
    whisker = mix(colour, BLACK, 0.75) if sum(colour) > 150 else WHITE
    for side in (-1, 1):
        pen.line([(side * 0.45, 0.52), (side * 1.1, 0.42)], 0.07, whisker)
        pen.line([(side * 0.45, 0.64), (side * 1.05, 0.76)], 0.07, whisker)


def rabbit(pen: Pen, colour: Colour) -> None:
    for side in (-1, 1):
        pen.ellipse(side * 0.38, -0.52, 0.24, 0.6, colour)
        pen.ellipse(side * 0.38, -0.52, 0.11, 0.42, PINK if colour != PINK else WHITE)
    pen.ellipse(0, 0.4, 0.76, 0.64, colour)
    _eyes(pen, x=0.33, y=0.26, radius=0.2, pupil=0.13)
    pen.ellipse(0, 0.52, 0.12, 0.09, PINK if colour != PINK else BLACK)
    pen.rectangle(0, 0.74, 0.13, 0.13, WHITE if colour != WHITE else mix(WHITE, BLACK, 0.4))


def bear(pen: Pen, colour: Colour) -> None:
    for side in (-1, 1):
        pen.circle(side * 0.68, -0.6, 0.36, colour)
        pen.circle(side * 0.68, -0.6, 0.18, _shade(colour))
    pen.ellipse(0, 0.12, 0.94, 0.86, colour)
    pen.ellipse(0, 0.42, 0.44, 0.36, mix(colour, WHITE, 0.65) if colour != WHITE else mix(WHITE, BROWN, 0.3))
    pen.ellipse(0, 0.26, 0.19, 0.14, BLACK)
    pen.line([(0, 0.3), (0, 0.6)], 0.08, BLACK)
    eye = BLACK if sum(colour) > 150 else WHITE
    for side in (-1, 1):
        pen.circle(side * 0.4, -0.12, 0.13, eye)


def ghost(pen: Pen, colour: Colour) -> None:
    pen.circle(0, -0.28, 0.74, colour)
    pen.rectangle(0, 0.22, 0.74, 0.5, colour)
    for x in (-0.49, 0.0, 0.49):
        pen.circle(x, 0.74, 0.25, colour)
    eye = BLACK if sum(colour) > 150 else WHITE
    for side in (-1, 1):
        pen.ellipse(side * 0.28, -0.26, 0.15, 0.22, eye)
    pen.ellipse(0, 0.24, 0.14, 0.18, eye)


def robot(pen: Pen, colour: Colour) -> None:
    pen.line([(0, -0.6), (0, -0.95)], 0.12, _shade(colour))
    pen.circle(0, -0.92, 0.17, _shade(colour))
    for side in (-1, 1):
        pen.rectangle(side * 0.9, 0.15, 0.14, 0.26, _shade(colour))
    pen.rectangle(0, 0.15, 0.8, 0.76, colour)
    for side in (-1, 1):
        pen.rectangle(side * 0.36, -0.1, 0.23, 0.21, WHITE)
        pen.rectangle(side * 0.36, -0.1, 0.11, 0.11, BLACK)
    pen.rectangle(0, 0.55, 0.5, 0.18, WHITE)
    for x in (-0.25, 0.0, 0.25):
        pen.line([(x, 0.38), (x, 0.72)], 0.08, BLACK)


def fish(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0.35, 0), (1.1, -0.62), (0.92, 0), (1.1, 0.62)], _shade(colour))
    pen.polygon([(-0.35, -0.42), (0.3, -0.88), (0.32, -0.3)], _shade(colour))
    pen.polygon([(-0.2, 0.42), (0.2, 0.84), (0.28, 0.3)], _shade(colour))
    pen.ellipse(-0.22, 0, 0.84, 0.56, colour)
    pen.circle(-0.6, -0.12, 0.19, WHITE)
    pen.circle(-0.63, -0.12, 0.11, BLACK)
    pen.line([(-0.16, -0.34), (-0.04, 0), (-0.16, 0.34)], 0.11, _shade(colour))


def house(pen: Pen, colour: Colour) -> None:
    pen.rectangle(0.5, -0.66, 0.13, 0.28, _shade(colour))
    pen.rectangle(0, 0.42, 0.76, 0.56, colour)
    pen.polygon([(0, -0.98), (1.04, -0.1), (-1.04, -0.1)], _shade(colour))
    pen.rectangle(-0.34, 0.6, 0.21, 0.38, BROWN if colour != BROWN else YELLOW)
    pen.rectangle(0.32, 0.36, 0.24, 0.23, GLASS)
    pen.line([(0.32, 0.13), (0.32, 0.59)], 0.07, BLACK)
    pen.line([(0.08, 0.36), (0.56, 0.36)], 0.07, BLACK)


def tree(pen: Pen, colour: Colour) -> None:
    pen.rectangle(0, 0.72, 0.17, 0.3, BROWN if colour != BROWN else BLACK)
    for top, bottom, half in ((-1.05, -0.3, 0.55), (-0.62, 0.1, 0.74), (-0.2, 0.56, 0.92)):
        pen.polygon([(0, top), (half, bottom), (-half, bottom)], colour)


def flower(pen: Pen, colour: Colour) -> None:
    pen.line([(0, 0), (0, 1.05)], 0.16, GREEN if colour != GREEN else BROWN)
    pen.ellipse(0.32, 0.78, 0.27, 0.13, GREEN if colour != GREEN else BROWN)
    for i in range(6):
        a = math.pi / 6 + i * math.pi / 3
        pen.circle(0.44 * math.cos(a), -0.28 + 0.44 * math.sin(a), 0.29, colour)
    pen.circle(0, -0.28, 0.26, YELLOW if colour not in (YELLOW, PALETTE["orange"], WHITE) else BROWN)


def car(pen: Pen, colour: Colour) -> None:
    pen.polygon([(-0.68, 0.0), (-0.46, -0.56), (0.34, -0.56), (0.66, 0.0)], colour)
    pen.polygon([(-0.5, -0.04), (-0.36, -0.4), (-0.08, -0.4), (-0.08, -0.04)], GLASS)
    pen.polygon([(0.04, -0.04), (0.04, -0.4), (0.26, -0.4), (0.46, -0.04)], GLASS)
    pen.rectangle(0, 0.2, 1.04, 0.26, colour)
    for side in (-1, 1):
        pen.circle(side * 0.54, 0.46, 0.3, BLACK)
        pen.circle(side * 0.54, 0.46, 0.14, PALETTE["white"])
    pen.circle(0.94, 0.14, 0.1, YELLOW if colour != YELLOW else WHITE)


FIGURES: dict[str, Callable[[Pen, Colour], None]] = {
    figure.__name__: figure
    for figure in (
        circle,
        square,
        triangle,
        diamond,
        star,
        heart,
        ring,
        moon,
        cat,
        rabbit,
        bear,
        ghost,
        robot,
        fish,
        house,
        tree,
        flower,
        car,
    )
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "heart", "ring", "moon")
THINGS = tuple(kind for kind in FIGURES if kind not in SHAPES)


def _eyes(pen: Pen, x: float, y: float, radius: float, pupil: float) -> None:
    for side in (-1, 1):
        pen.circle(side * x, y, radius, WHITE)
        pen.circle(side * x, y, pupil, BLACK)


def _shade(colour: Colour) -> Colour:
    # black has nothing darker to lean on, so its second tone is lighter
    return mix(colour, BLACK, 0.4) if sum(colour) > 150 else mix(colour, WHITE, 0.35)


def _arc(start_degrees: int, stop_degrees: int) -> list[float]:
    return [math.radians(a) for a in range(start_degrees, stop_degrees + 1, 5)]
