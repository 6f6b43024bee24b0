"""Picture files as the VAE wants them: read with every oddity undone, resized, cropped, as a tensor."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import DataError
from .buckets import Placement, Size
from .names import named
from .picture_plugins import prepare_to_open, size_in_header

# What Pillow reads that is a picture, and what it reads with a plug-in. Not .eps and .ps, which are programs, .wmf and
# .emf, which are drawings, nor the weather maps, films and archives among its formats.
# fmt: off
PICTURE_SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits",
    ".flc", ".fli", ".ftc", ".ftu", ".gbr", ".gif", ".heic", ".heics", ".heif", ".heifs", ".hif", ".icb",
    ".icns", ".ico", ".im", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx",
    ".jxl", ".mpo", ".msp", ".pbm", ".pcd", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".pxr",
    ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
})
# fmt: on
# pictures to a person, but not to Pillow
UNREADABLE_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".eps", ".nef", ".orf", ".raw", ".svg", ".xcf"})
MAX_PIXELS = 64_000_000  # 64 MP: a few KB of file can unpack to gigabytes
MAX_BYTES = 1 << 30  # twice what 64 MP take uncompressed, with 16 bits for each of four channels
_NO_PICTURES = ("EPS", "WMF")  # Pillow would start Ghostscript, or draw through Windows
_SUFFIXES = {".jpeg": ".jpg", ".mpo": ".jpg", ".tiff": ".tif", ".jpeg2000": ".jp2"}  # by Pillow's name of the format
_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS_ON_THEIR_SIDE = (5, 6, 7, 8)


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a picture without decoding it.

    size: (width, height) after EXIF orientation. digest: sha256 of the file's bytes, hex."""

    size: Size
    digest: str


def inspect_picture(path: Path) -> PictureFacts:
    """Size and content digest from one read of the file; pixels are decoded only where its ends do not show it whole.

    Raises DataError, naming the file and the cure, for one that is no picture, incomplete, or above MAX_PIXELS."""
    data = read_bytes(path)
    with _opened(data, path) as image:
        size = image.size
        if _has_exif(image, data) and _orientation(image, path) in _ORIENTATIONS_ON_THEIR_SIDE:
            size = (size[1], size[0])
        is_complete = _is_complete(image, data)
    if not is_complete:
        size = decode_picture(data, path).size
    return PictureFacts(size, content_digest(data))


def read_picture(path: Path) -> Image.Image:
    """The picture as RGB, upright (EXIF orientation is honoured, where kohya ignores it); an animation's first frame.

    Transparency is laid on white (kohya drops it, which shows whatever colour lies under it). 16-bit grey is scaled to
    8 bits, CMYK and palettes are converted; colour profiles are ignored. Raises DataError naming the file."""
    return decode_picture(read_bytes(path), path)


def decode_picture(data: bytes, path: Path) -> Image.Image:
    """As `read_picture`, from the file's bytes; `path` only names the picture in messages."""
    with _opened(data, path) as image:
        try:
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image))
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            raise DataError(f"{named(path)} is damaged ({_reason(error)}); replace it or remove it") from error


def decode_opacity(data: bytes, path: Path) -> Image.Image | None:
    """How opaque each pixel is, 0 to 255 in all three channels of an RGB picture, upright; None, without decoding it,
    for a picture that has no transparency. As `decode_picture`."""
    with _opened(data, path) as image:
        if not _has_transparency(image):
            return None
        try:
            image.load()
            return ImageOps.exif_transpose(image).convert("RGBA").getchannel("A").convert("RGB")
        except MemoryError:
            raise
        except Exception as error:  # as in decode_picture
            raise DataError(f"{named(path)} is damaged ({_reason(error)}); replace it or remove it") from error


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises DataError naming the file if it cannot be read or is not a file."""
    try:
        if not path.is_file():  # a broken or circular link, a device, a pipe that would never end
            raise DataError(f"{named(path)} is a broken link or no ordinary file; remove it")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{named(path)} is larger than {MAX_BYTES >> 30} GiB; make it smaller or remove it")
        return path.read_bytes()
    except PermissionError as error:
        raise DataError(f"{named(path)} may not be read; change its permissions or remove it") from error
    except OSError as error:
        raise DataError(f"{named(path)} cannot be read ({_reason(error)}); copy it again or remove it") from error


def true_suffix(data: bytes, path: Path) -> str:
    """The suffix of `PICTURE_SUFFIXES` that goes with a picture's content, whatever the file is called."""
    with _opened(data, path) as image:
        own = f".{image.format}".lower()
    return _SUFFIXES.get(own, own if own in PICTURE_SUFFIXES else ".png")


def content_digest(data: bytes) -> str:
    """sha256 of a file's bytes, hex: tells pictures apart whatever they are called."""
    return hashlib.sha256(data).hexdigest()


def fit_to_bucket(image: Image.Image, placement: Placement) -> Image.Image:
    """The part of the resized picture that the bucket takes, RGB, of the bucket's size.

    As kohya: area averaging when neither side grows, Lanczos otherwise. Only the part that is kept is computed, so a
    long strip of a picture needs no more memory than a square one."""
    if placement.mirrored:
        return ImageOps.mirror(fit_to_bucket(image, replace(placement, mirrored=False)))
    (bucket_width, bucket_height), (left, top) = placement.bucket, placement.crop
    scale_x, scale_y = image.width / placement.resized[0], image.height / placement.resized[1]
    x_edges = (left + np.arange(bucket_width + 1)) * scale_x
    y_edges = (top + np.arange(bucket_height + 1)) * scale_y
    if placement.resized == image.size:
        return image.crop((left, top, left + bucket_width, top + bucket_height))
    if scale_x >= 1 and scale_y >= 1:
        return _area_averaged(image, x_edges, y_edges)
    return _lanczos(image, placement.bucket, np.minimum(x_edges, image.width), np.minimum(y_edges, image.height))


def to_tensor(image: Image.Image) -> Tensor:
    """[3, H, W] fp32 in [-1, 1] from an RGB picture."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.permute(2, 0, 1).to(torch.float32).div_(127.5).sub_(1).contiguous()


def size_conditioning(size: Size, placement: Placement) -> tuple[int, int, int, int, int, int]:
    """SDXL's (original height, width, crop top, left, target height, width) in pixels.

    size: the picture's (width, height). Original and target (the bucket) are kohya's; the crop is the real one, in
    pixels of the resized picture, as the SDXL paper has it (arXiv:2307.01952 §2.2), where kohya computes another. In a
    mirrored picture it is what was cut off at the right."""
    (width, height), (left, top), bucket = size, placement.crop, placement.bucket
    if placement.mirrored:
        left = placement.resized[0] - bucket[0] - left
    return height, width, top, left, bucket[1], bucket[0]


def _opened(data: bytes, path: Path) -> Image.Image:
    if not data:
        raise DataError(f"{named(path)} is empty (0 bytes); copy it again or remove it")
    prepare_to_open(data, named(path))
    _check_pixels(size_in_header(data) or (0, 0), path)
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(path)) from error
    except Exception as error:  # as in decode_picture: a broken header may raise nearly anything
        raise DataError(
            f"{named(path)} cannot be read as a picture; save it again as PNG or JPEG, or remove it"
        ) from error
    try:
        _check_pixels(image.size, path)
        if image.format in _NO_PICTURES:
            raise DataError(f"{named(path)} is a drawing ({image.format}), not pixels; save it as PNG or remove it")
    except DataError:
        image.close()
        raise
    return image


def _check_pixels(size: Size, path: Path) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{_too_large(path)} (it has {size[0]}×{size[1]})")


def _too_large(path: Path) -> str:
    return f"{named(path)} has more than {MAX_PIXELS // 1_000_000} million pixels; make it smaller or remove it"


def _has_exif(image: Image.Image, data: bytes) -> bool:
    # asking Pillow for a PNG's Exif decodes the whole picture, as it may stand behind the pixels
    return image.format != "PNG" or b"eXIf" in data or b"Raw profile type" in data or b"XML:com.adobe.xmp" in data


def _orientation(image: Image.Image, path: Path) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception as error:
        raise DataError(
            f"{named(path)} has damaged Exif data ({_reason(error)}); save it again or remove it"
        ) from error


def _is_complete(image: Image.Image, data: bytes) -> bool:
    """Whether the file can be trusted to decode, from its ends or checksums alone. False means: decode it to know."""
    if image.format == "JPEG":
        return b"\xff\xd9" in data[-64:]
    if image.format == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    if image.format == "PNG" and b"IEND" in data[-64:]:
        try:
            image.verify()
            return True
        except Exception:
            return False
    return False


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if _has_transparency(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _has_transparency(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Grey levels as uint8: whole numbers are 16-bit (Pillow reads 16-bit PNG and TIFF so), fractions are 0 to 1."""
    levels = grey.astype(np.float32)
    top = 65535.0 if levels.max(initial=0) > 1 or grey.dtype.kind != "f" else 1.0
    return np.rint(np.clip(levels / top, 0, 1) * 255).astype(np.uint8)


def _lanczos(image: Image.Image, size: Size, x_edges: np.ndarray, y_edges: np.ndarray) -> Image.Image:
    """The part between the outermost edges, resized. Across first, then down: left to itself, Pillow chooses the order
    by cost, and its 8-bit result depends on it."""
    top, bottom = max(0, math.floor(y_edges[0]) - 8), min(image.height, math.ceil(y_edges[-1]) + 8)  # the filter sees 3
    rows = image.crop((0, top, image.width, bottom))
    across = rows.resize(
        (size[0], rows.height), Image.Resampling.LANCZOS, box=(float(x_edges[0]), 0, float(x_edges[-1]), rows.height)
    )
    return across.resize(
        size, Image.Resampling.LANCZOS, box=(0, float(y_edges[0] - top), size[0], float(y_edges[-1] - top))
    )


def _area_averaged(image: Image.Image, x_edges: np.ndarray, y_edges: np.ndarray) -> Image.Image:
    """Each output pixel is the mean of what lies between its edges, parts of pixels counted as parts.

    Pillow's BOX filter takes each source pixel wholly or not at all, which aliases at factors between 1 and 2."""
    pixels = np.asarray(image)  # [H, W, 3]
    rows = _row_means(pixels, np.minimum(y_edges, image.height))
    columns = _row_means(np.ascontiguousarray(rows.transpose(1, 0, 2)), np.minimum(x_edges, image.width))
    return Image.fromarray(np.rint(columns.transpose(1, 0, 2)).astype(np.uint8))


def _row_means(pixels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[n, W, 3] fp32: the means of the rows between each two of the n + 1 edges, which need not be whole numbers."""
    rows = pixels.reshape(len(pixels), -1)
    means = np.empty((len(edges) - 1, rows.shape[1]), dtype=np.float32)
    for i, (start, end) in enumerate(pairwise(edges)):
        first, last = math.floor(start), min(math.ceil(end), len(rows)) - 1
        shares = np.ones(last + 1 - first, dtype=np.float32)
        shares[0] -= start - first
        shares[-1] -= last + 1 - end
        means[i] = (shares / np.float32(end - start)) @ rows[first : last + 1].astype(np.float32, copy=False)
    return means.reshape(-1, *pixels.shape[1:])


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).split("\n")[0]
