"""A dataset report as a picture: the words, the pictures with what their buckets cut off, and the most common tags."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageEnhance

from ..data.buckets import Placement
from ..data.pictures import read_picture
from ..errors import DataError
from ..grid import bars, contact_sheet, stacked, written
from .report import Examined
from .words import described

_MOST_PICTURES = 16
_MOST_TAGS = 24
_SIDE = 256
_FRAME = "#e5484d"


def drawn(examined: Examined, most_pictures: int = _MOST_PICTURES) -> Image.Image:
    """The report as one RGB picture. Pictures are shown whole, with what their bucket cuts off darkened.

    One of each bucket first, then those that lose most."""
    report, placements = examined.report, examined.placements
    pictures, labels = [], []
    for place in _chosen(placements)[:most_pictures]:
        example, placement = examined.examples[place], placements[place]
        try:
            pictures.append(with_crop(read_picture(example.path), placement, _SIDE))
        except DataError:  # it has been told of when the folder was read
            continue
        labels.append(f"{example.name}\n{_by(example.size)} → {_by(placement.bucket)}")
    width = 4 * (_SIDE + 12)
    tags = report.tags[:_MOST_TAGS]
    parts = [written(described(report), width)]
    parts += [contact_sheet(pictures, labels, _SIDE)] if pictures else []
    parts += [bars([each.tag for each in tags], [each.share for each in tags], width)] if tags else []
    return stacked(parts)


def with_crop(picture: Image.Image, placement: Placement, side: int) -> Image.Image:
    """The whole picture, made to fit a square of `side`, with what is not trained on darkened behind a frame."""
    scale = side / max(picture.size)
    shown = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    (left, top), (width, height), (whole_width, whole_height) = placement.crop, placement.bucket, placement.resized
    across, down = shown.width / whole_width, shown.height / whole_height
    box = (round(left * across), round(top * down), round((left + width) * across), round((top + height) * down))
    dark = ImageEnhance.Brightness(shown).enhance(0.35)
    dark.paste(shown.crop(box), box[:2])
    ImageDraw.Draw(dark).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=_FRAME, width=2)
    return dark


def _chosen(placements: Sequence[Placement]) -> list[int]:
    by_loss = sorted(range(len(placements)), key=lambda place: -_lost(placements[place]))
    first_of_bucket = {placements[place].bucket: place for place in reversed(by_loss)}
    return list(dict.fromkeys([*sorted(first_of_bucket.values()), *by_loss]))


def _lost(placement: Placement) -> float:
    return 1 - placement.bucket[0] * placement.bucket[1] / (placement.resized[0] * placement.resized[1])


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
