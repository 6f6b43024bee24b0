"""Pictures side by side with their labels: epochs over prompts, or a dataset with its captions."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _EMPTY, _BAR = "white", "#1a1a1a", "#e8e8e8", "#7aa7e0"
_SMALLEST_FONT = 13
_MOST_LINES = 6
_WIDEST_WORD = 16  # times the letters' size: what a column is made wider for

Cells = Sequence[Sequence["Image.Image | None"]]


@dataclass(frozen=True)
class _Type:
    """A font and what follows from its size, in pixels."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    size: int

    @property
    def line(self) -> int:
        return round(self.size * 1.3)

    @property
    def gap(self) -> int:
        return max(4, self.size // 2)

    def width(self, text: str) -> float:
        return self.font.getlength(text)

    def height(self, lines: Sequence[str]) -> int:
        return len(lines) * self.line


def labelled_grid(cells: Cells, columns: Sequence[str], rows: Sequence[str] = ()) -> Image.Image:
    """One picture of rows of cells, a label over each column and, where `rows` says something, one left of each row.

    cells: [rows][columns], None stays empty. Pictures keep their size; smaller ones stand in the middle of their cell.
    Labels are wrapped to their column's width and written no smaller than can be read, however small the cells are;
    a column is made wider for a word that would not fit."""
    pictures = [each for row in cells for each in row if each is not None]
    width = max((each.width for each in pictures), default=256)
    height = max((each.height for each in pictures), default=256)
    kind = _type_for(min(width, height))
    words = [kind.width(word) for label in columns for word in label.split()]
    width = max(width, min(round(max(words, default=0)) + 1, _WIDEST_WORD * kind.size))
    margin = max(8 * kind.size, width // 3) if any(rows) else 0
    tops = [_wrapped(label, width, kind) for label in columns]
    lefts = [_wrapped(label, margin - kind.gap, kind) for label in rows] if margin else [[] for _ in cells]
    head = max((kind.height(lines) for lines in tops), default=0)
    heights = [max(height, kind.height(lines)) for lines in lefts]
    gap = kind.gap
    size = (margin + len(columns) * (width + gap) + gap, head + sum(each + gap for each in heights) + 2 * gap)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, lines in enumerate(tops):
        _write(draw, lines, (margin + gap + column * (width + gap) + width // 2, gap), kind, centred=True)
    y = head + 2 * gap
    for row, lines, row_height in zip(cells, lefts, heights):
        _write(draw, lines, (gap, y + (row_height - kind.height(lines)) // 2), kind)
        for column, picture in enumerate(row):
            x = margin + gap + column * (width + gap)
            _place(sheet, picture, (x, y, x + width, y + row_height))
        y += row_height + gap
    return sheet


def contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str], side: int = 256) -> Image.Image:
    """The pictures, made to fit squares of `side` pixels, up to four in a row, each with its caption below."""
    kind = _type_for(side)
    per_row = min(4, max(1, len(pictures)))
    cells = [(_fitted(picture, side), _wrapped(caption, side, kind)) for picture, caption in zip(pictures, captions)]
    lines = max((len(text) for _, text in cells), default=0)
    gap, step = kind.gap, side + lines * kind.line + 2 * kind.gap
    full_rows = -(-len(cells) // per_row)
    sheet = Image.new("RGB", (per_row * (side + gap) + gap, max(1, full_rows) * step + gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, text) in enumerate(cells):
        x, y = gap + number % per_row * (side + gap), gap + number // per_row * step
        _place(sheet, picture, (x, y, x + side, y + side))
        _write(draw, text, (x, y + side + gap // 2), kind)
    return sheet


def written(text: str, width: int) -> Image.Image:
    """The text on a sheet of `width` pixels, each line wrapped where it has to be."""
    kind = _type_for(0)
    lines = [
        line for paragraph in text.splitlines() for line in [*_lines(paragraph, width - 2 * kind.gap, kind)] or [""]
    ]
    sheet = Image.new("RGB", (width, kind.height(lines) + 2 * kind.gap), _PAPER)
    _write(ImageDraw.Draw(sheet), lines, (kind.gap, kind.gap), kind)
    return sheet


def bars(labels: Sequence[str], shares: Sequence[float], width: int) -> Image.Image:
    """A bar for each share (0 to 1) behind its label and before its percentage, on a sheet of `width` pixels."""
    kind = _type_for(0)
    margin, room = width // 4, width // 2
    sheet = Image.new("RGB", (width, len(labels) * kind.line + 2 * kind.gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (label, share) in enumerate(zip(labels, shares)):
        y = kind.gap + number * kind.line
        _write(draw, list(_lines(label, margin - 2 * kind.gap, kind))[:1], (kind.gap, y), kind)
        draw.rectangle((margin, y + 2, margin + max(1, round(share * room)), y + kind.line - 3), fill=_BAR)
        _write(draw, [f"{share:.0%}"], (margin + round(share * room) + kind.gap, y), kind)
    return sheet


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """The sheets one below the other, as wide as the widest of them."""
    size = (max(each.width for each in sheets), sum(each.height for each in sheets))
    whole = Image.new("RGB", size, _PAPER)
    y = 0
    for each in sheets:
        whole.paste(each, (0, y))
        y += each.height
    return whole


def _type_for(side: int) -> _Type:
    """Letters in proportion to cells whose shorter side is `side` pixels."""
    size = max(_SMALLEST_FONT, side // 20)
    return _Type(_font(size), size)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own font has next to nothing beyond ASCII; matplotlib brings one with most alphabets
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib is not None and matplotlib.origin:
        path = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def _wrapped(text: str, width: float, kind: _Type) -> list[str]:
    """The text in lines that fit the width; what does not fit into a few lines ends in an ellipsis."""
    lines = [line for paragraph in text.splitlines() for line in _lines(paragraph, width, kind)]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1].rstrip()[:-1] + "…"]
    return lines


def _lines(text: str, width: float, kind: _Type) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and kind.width(f"{line} {word}") > width:
            yield line
            line = ""
        line = f"{line} {word}".lstrip()
        while kind.width(line) > width and len(line) > 1:  # a single word that is too long is broken anywhere
            fitting = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or kind.width(line[:n]) <= width)
            yield line[:fitting]
            line = line[fitting:]
    if line:
        yield line


def _write(
    draw: ImageDraw.ImageDraw, lines: Sequence[str], at: tuple[int, int], kind: _Type, centred: bool = False
) -> None:
    x, y = at
    for number, line in enumerate(lines):
        left = x - kind.width(line) / 2 if centred else x
        draw.text((round(left), y + number * kind.line), line, fill=_INK, font=kind.font)


def _place(sheet: Image.Image, picture: Image.Image | None, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    if picture is None:
        sheet.paste(_EMPTY, box)
    else:
        sheet.paste(picture, (left + (right - left - picture.width) // 2, top + (bottom - top - picture.height) // 2))


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
