"""Pictures that Pillow reads only with a plug-in: HEIC, JPEG XL, and AVIF before Pillow 11.3.

They are told by their first bytes, as phones and downloaders call them `.jpg`, too."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from PIL import Image, features

from ..errors import DataError
from .buckets import Size

_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_JXL_CODESTREAM = b"\xff\x0a"
_JXL_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
# width : height, by the three bits that a JPEG XL header has for it
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


@dataclass(frozen=True)
class _Plugin:
    kind: str
    package: str
    module: str
    register: str = ""  # a function to call, where importing is not enough


_HEIC = _Plugin("a HEIC picture", "pillow-heif", "pillow_heif", "register_heif_opener")
_AVIF = _Plugin("an AVIF picture", "pillow-avif-plugin", "pillow_avif")
_JXL = _Plugin("a JPEG XL picture", "pillow-jxl-plugin", "pillow_jxl")


def prepare_to_open(data: bytes, name: str) -> None:
    """Load the plug-in that a picture file's bytes need, if any. Raises DataError, with the pip line, without it."""
    plugin = _plugin_for(data)
    if plugin is None:
        return
    try:
        module = importlib.import_module(plugin.module)
        if plugin.register:
            getattr(module, plugin.register)()
    except ImportError:
        raise DataError(
            f"{name} is {plugin.kind}, which cannot be read here; pip install {plugin.package}, or save as PNG"
        ) from None


def size_in_header(data: bytes) -> Size | None:
    """(width, height) that a JPEG XL file's header states; None for every other file, and for a header cut off.

    Its plug-in decodes on opening, so a bomb has to be seen before. ISO/IEC 18181-1, SizeHeader."""
    codestream = _jxl_codestream(data)
    if len(codestream) < 12:
        return None
    bits = _Bits(int.from_bytes(codestream[2:12], "little"))
    is_small = bits.take(1)
    height = _jxl_side(bits, is_small)
    ratio = bits.take(3)
    if ratio == 0:
        return _jxl_side(bits, is_small), height
    across, down = _JXL_RATIOS[ratio]
    return height * across // down, height


class _Bits:
    """A number read from its lowest bit up."""

    def __init__(self, number: int):
        self._number = number

    def take(self, count: int) -> int:
        taken = self._number & ((1 << count) - 1)
        self._number >>= count
        return taken


def _jxl_side(bits: _Bits, is_small: int) -> int:
    if is_small:
        return (bits.take(5) + 1) * 8
    return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1


def _jxl_codestream(data: bytes) -> bytes:
    """What stands behind a JPEG XL file's boxes, or its first part; b"" for another kind of file."""
    if data.startswith(_JXL_CODESTREAM):
        return data
    if not data.startswith(_JXL_CONTAINER):
        return b""
    place = 0
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        body = place + 8
        if size == 1:
            size, body = int.from_bytes(data[place + 8 : place + 16], "big"), place + 16
        if kind in (b"jxlc", b"jxlp"):
            return data[body + (4 if kind == b"jxlp" else 0) :]
        if size < 8:  # 0 is up to the end; less than a box's own head is damage
            return b""
        place += size
    return b""


def _plugin_for(data: bytes) -> _Plugin | None:
    if data.startswith((_JXL_CODESTREAM, _JXL_CONTAINER)):
        return _JXL
    if data[4:8] != b"ftyp":
        return None
    length = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[place : place + 4] for place in range(8, length, 4)}
    if brands & _AVIF_BRANDS:
        return None if features.check("avif") or "AVIF" in Image.OPEN else _AVIF
    return _HEIC if brands & _HEIC_BRANDS else None
