"""A 64 x 64 canvas drawn at four times its size and box-reduced: smooth edges without a drawing library."""

from __future__ import annotations

from PIL import Image, ImageDraw

SIZE = 64
SUPERSAMPLING = 4

Colour = tuple[int, int, int]
Point = tuple[float, float]

PALETTE: dict[str, Colour] = {
    "red": (220, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 220, 40),
    "green": (50, 170, 60),
    "teal": (20, 190, 190),
    "blue": (40, 80, 220),
    "purple": (140, 60, 190),
    "pink": (255, 140, 190),
    "brown": (130, 80, 40),
    "white": (250, 250, 250),
    "gray": (140, 140, 145),
    "black": (20, 20, 25),
}


class Canvas:
    """A drawing surface in picture coordinates (0..64, y down); `finish` gives the 64 x 64 picture."""

    def __init__(self, background: Colour) -> None:
        side = SIZE * SUPERSAMPLING
        self._image = Image.new("RGB", (side, side), background)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: list[Point], fill: Colour) -> None:
        self._draw.polygon([(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points], fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self._draw.ellipse(_box(x, y, rx, ry), fill=fill)

    def ring(self, x: float, y: float, rx: float, ry: float, thickness: float, fill: Colour) -> None:
        """An elliptic band whose outer radii are rx, ry; what lies inside it stays visible."""
        width = max(1, round(thickness * SUPERSAMPLING))
        self._draw.ellipse(_box(x, y, rx, ry), outline=fill, width=width)

    def rectangle(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self._draw.rectangle(_box(x, y, rx, ry), fill=fill)

    def line(self, points: list[Point], thickness: float, fill: Colour) -> None:
        width = max(1, round(thickness * SUPERSAMPLING))
        self._draw.line([(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points], fill=fill, width=width)

    def finish(self) -> Image.Image:
        return self._image.reduce(SUPERSAMPLING)


class Pen:
    """Draws on a canvas in a figure's own units: (0, 0) is its centre and 1 its radius."""

    def __init__(self, canvas: Canvas, x: float, y: float, radius: float) -> None:
        self._canvas, self._x, self._y, self._r = canvas, x, y, radius

    def polygon(self, points: list[Point], fill: Colour) -> None:
        self._canvas.polygon([self._place(p) for p in points], fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self._canvas.ellipse(*self._place((x, y)), rx * self._r, ry * self._r, fill)

    def circle(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.ellipse(x, y, radius, radius, fill)

    def ring(self, x: float, y: float, rx: float, ry: float, thickness: float, fill: Colour) -> None:
        self._canvas.ring(*self._place((x, y)), rx * self._r, ry * self._r, thickness * self._r, fill)

    def rectangle(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self._canvas.rectangle(*self._place((x, y)), rx * self._r, ry * self._r, fill)

    def line(self, points: list[Point], thickness: float, fill: Colour) -> None:
        self._canvas.line([self._place(p) for p in points], thickness * self._r, fill)

    def _place(self, point: Point) -> Point:
        return self._x + point[0] * self._r, self._y + point[1] * self._r


def mix(a: Colour, b: Colour, share_of_b: float) -> Colour:
    """The colour between a (0) and b (1)."""
    return tuple(round(u + (v - u) * share_of_b) for u, v in zip(a, b))  # type: ignore[return-value]


def _box(x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
    # PIL paints the far edge too: half a pixel less on both sides keeps figures symmetric
    s = SUPERSAMPLING
    return (x - rx) * s, (y - ry) * s, (x + rx) * s - 1, (y + ry) * s - 1
