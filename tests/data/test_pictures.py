"""Picture files of every kind, and how they are brought to a bucket's size."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer_core.data.buckets import Placement, cover
from trainer_core.data.picture_plugins import size_in_header
from trainer_core.data.pictures import (
    PICTURE_SUFFIXES,
    fit_to_bucket,
    inspect_picture,
    read_picture,
    size_conditioning,
    to_tensor,
    true_suffix,
)
from trainer_core.errors import DataError


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(at) for at in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


def four_colours(size=(40, 20)) -> Image.Image:
    image = Image.new("RGB", size, "red")
    half = (size[0] // 2, size[1] // 2)
    image.paste("lime", (half[0], 0, size[0], half[1]))
    image.paste("blue", (0, half[1], half[0], size[1]))
    image.paste("yellow", (*half, *size))
    return image


RED, LIME, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, LIME, BLUE, YELLOW]),
        (2, [LIME, RED, YELLOW, BLUE]),
        (3, [YELLOW, BLUE, LIME, RED]),
        (4, [BLUE, YELLOW, RED, LIME]),
        (5, [RED, BLUE, LIME, YELLOW]),
        (6, [BLUE, RED, YELLOW, LIME]),
        (7, [YELLOW, LIME, BLUE, RED]),
        (8, [LIME, YELLOW, RED, BLUE]),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_exif_orientation_is_honoured_in_size_and_pixels(tmp_path, orientation, expected, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    four_colours().save(path, exif=exif, lossless=True)
    picture = read_picture(path)
    assert corners(picture) == expected
    assert inspect_picture(path).size == picture.size == ((40, 20) if orientation < 5 else (20, 40))


def transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (4, 0, 8, 8))
    return image if mode == "RGBA" else image.convert(mode)


def palette_with_transparent_entry() -> Image.Image:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.paste(1, (4, 0, 8, 8))
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    "image", [transparent("RGBA"), transparent("LA"), palette_with_transparent_entry()], ids=lambda image: image.mode
)
def test_transparency_is_laid_on_white(tmp_path, image):
    image.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.mode == "RGB"
    assert picture.getpixel((7, 0)) == WHITE
    assert picture.getpixel((0, 0)) != WHITE


def test_half_transparent_is_mixed_with_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    four_colours((64, 64)).convert(mode).save(tmp_path / f"a.{suffix}")
    assert read_picture(tmp_path / f"a.{suffix}").mode == "RGB"


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        grey = np.asarray(read_picture(tmp_path / name))[..., 0]
        assert np.array_equal(grey.ravel(), np.arange(256))


def test_float_tiff_is_scaled(tmp_path):
    Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)).save(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.tif"))[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert read_picture(tmp_path / f"a.{suffix}").getpixel((3, 3)) == RED


def test_a_wrong_suffix_does_not_matter(tmp_path):
    four_colours().save(tmp_path / "a.jpg", format="PNG")
    assert read_picture(tmp_path / "a.jpg").getpixel((0, 0)) == RED
    assert inspect_picture(tmp_path / "a.jpg").size == (40, 20)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.7, 0.98])
def test_truncated_files_are_named_by_the_scan(tmp_path, suffix, kept):
    path = tmp_path / f"half.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    try:
        readable = np.asarray(read_picture(path)).size
    except DataError as error:
        readable = 0
        assert f"half.{suffix}" in str(error) and "remove it" in str(error)
    if readable:
        pytest.skip("nothing that is missing here is needed")
    with pytest.raises(DataError, match=rf"half\.{suffix}"):
        inspect_picture(path)


def test_damage_in_the_middle_of_a_png_is_found_without_decoding(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png"):
        inspect_picture(path)


def test_a_jpeg_with_something_behind_its_end_is_fine(tmp_path):
    four_colours().save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\0" * 500)
    assert inspect_picture(tmp_path / "a.jpg").size == (40, 20)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_named_with_a_cure(tmp_path, content):
    path = tmp_path / "10_cat" / "bad.png"
    path.parent.mkdir()
    path.write_bytes(content)
    for read in (read_picture, inspect_picture):
        with pytest.raises(DataError, match=r"10_cat/bad\.png.*remove it"):
            read(path)


def bomb(side: int) -> bytes:
    """A black 1-bit PNG of side × side: a few KB that unpack to gigabytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (side // 8 + 2)) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8100, 10_000, 13_500])
@pytest.mark.parametrize("host_limit", [None, Image.MAX_IMAGE_PIXELS])
def test_a_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch, side, host_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", host_limit)  # Forge sets it to None for the whole process
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    (tmp_path / "bomb.png").write_bytes(bomb(side))
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    for read in (read_picture, inspect_picture):
        with pytest.raises(DataError, match=r"bomb\.png has more than 64 million pixels.*smaller"):
            read(tmp_path / "bomb.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_links_and_pipes_are_refused_not_waited_for(tmp_path):
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("broken.png", "loop.png", "pipe.png"):
        with pytest.raises(DataError, match=f"{name}.*remove it"):
            inspect_picture(tmp_path / name)


def area_mean(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The definition, as two dense matrices: how much of each source pixel each output pixel covers."""

    def shares(n_in: int, n_out: int) -> np.ndarray:
        edges = np.arange(n_out + 1) * n_in / n_out
        start, end = edges[:-1, None], edges[1:, None]
        source = np.arange(n_in)
        covered = np.clip(np.minimum(end, source + 1) - np.maximum(start, source), 0, None)
        return covered / covered.sum(1, keepdims=True)

    rows = np.einsum("yh,hwc->ywc", shares(pixels.shape[0], size[1]), pixels)
    return np.einsum("xw,ywc->yxc", shares(pixels.shape[1], size[0]), rows)


picture_sizes = st.tuples(st.integers(1, 150), st.integers(1, 150))
buckets = st.sampled_from([(64, 64), (32, 96), (96, 32), (40, 56)])


@given(size=picture_sizes, bucket=buckets, seed=st.integers(0, 99))
def test_fitting_equals_resizing_the_whole_and_cropping(size, bucket, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, placement = Image.fromarray(pixels), cover(size, bucket)
    fitted = fit_to_bucket(image, placement)
    assert fitted.size == bucket
    shrinks = size[0] >= placement.resized[0] and size[1] >= placement.resized[1]
    whole = (
        area_mean(pixels, placement.resized)
        if shrinks
        else np.asarray(
            image.resize((placement.resized[0], size[1]), Image.Resampling.LANCZOS).resize(
                placement.resized, Image.Resampling.LANCZOS
            )
        )
    )
    left, top = placement.crop
    expected = whole[top : top + bucket[1], left : left + bucket[0]]
    assert np.abs(np.asarray(fitted, dtype=float) - expected).max() <= (0.51 if shrinks else 1)


def test_flat_colour_stays_flat_whatever_the_factor():
    for size in [(3000, 700), (65, 65), (64, 64), (1000, 64), (10, 10)]:
        fitted = fit_to_bucket(Image.new("RGB", size, (17, 130, 251)), cover(size, (64, 64)))
        assert fitted.getcolors() == [(64 * 64, (17, 130, 251))]


def test_a_long_strip_needs_little_memory():
    strip = Image.new("RGB", (60_000, 1), "red")
    placement = cover(strip.size, (1024, 256))
    assert placement.resized == (15_360_000, 256), "as a whole it would be 12 GB"
    assert fit_to_bucket(strip, placement).size == (1024, 256)


def test_a_picture_that_only_needs_cropping_keeps_its_pixels():
    image = four_colours((100, 70))
    fitted = fit_to_bucket(image, Placement((64, 64), (100, 70), (18, 3)))
    assert np.array_equal(np.asarray(fitted), np.asarray(image)[3:67, 18:82])


def test_tensor_spans_minus_one_to_one():
    image = Image.new("RGB", (4, 2), (0, 255, 51))
    pixels = to_tensor(image)
    assert pixels.shape == (3, 2, 4) and pixels.dtype == torch.float32 and pixels.is_contiguous()
    assert pixels[:, 0, 0].tolist() == pytest.approx([-1, 1, -0.6])


def test_size_conditioning_has_the_real_crop():
    size = (1282, 960)
    placement = cover(size, (576, 448))
    assert placement == Placement((576, 448), (598, 448), (11, 0))
    assert size_conditioning(size, placement) == (960, 1282, 0, 11, 448, 576)


def test_real_photos_are_read_and_fitted(photos: Path):
    for path in sorted(photos.glob("*/*.jpg"))[:6]:
        facts, picture = inspect_picture(path), read_picture(path)
        assert facts.size == picture.size
        fitted = np.asarray(fit_to_bucket(picture, cover(picture.size, (512, 512))), dtype=float)
        whole = np.asarray(picture, dtype=float)
        assert fitted.mean() == pytest.approx(whole.mean(), abs=2), "area averaging keeps the brightness"


def test_reading_does_not_hold_the_file(tmp_path):
    four_colours().save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    picture.resize((2, 2))
    assert isinstance(io.BytesIO(picture.tobytes()).read(1), bytes)


NOT_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}  # weather, programs, drawings, films


def test_every_format_of_pillow_is_read_or_refused_for_a_reason():
    Image.init()
    known = {suffix for suffix, format in Image.registered_extensions().items() if format in Image.OPEN}
    refused = {suffix for suffix, format in Image.registered_extensions().items() if format in NOT_PICTURES}
    assert known - PICTURE_SUFFIXES == refused & known


@pytest.mark.parametrize(
    "suffix", ["dds", "dib", "gif", "ico", "j2k", "jp2", "mpo", "pcx", "ppm", "qoi", "sgi", "tga", "tiff"]
)
def test_rarer_formats_are_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    try:
        four_colours((128, 128)).save(path)
    except (OSError, KeyError, ValueError) as error:
        pytest.skip(f"this Pillow does not write it: {error}")
    read = np.asarray(read_picture(path), dtype=int)
    expected = np.asarray(four_colours((128, 128)), dtype=int)
    assert inspect_picture(path).size == read.shape[1::-1] == (128, 128)
    assert np.abs(read - expected).mean() < 5


@pytest.mark.parametrize(
    ("format", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("TIFF", ".tif"), ("JPEG2000", ".jp2")]
)
def test_the_suffix_of_the_content_is_known(tmp_path, format, suffix):
    four_colours().save(tmp_path / "a.exe", format=format)
    assert true_suffix((tmp_path / "a.exe").read_bytes(), tmp_path / "a.exe") == suffix
    assert suffix in PICTURE_SUFFIXES


def test_a_program_that_draws_is_not_started(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"a\.png is a drawing \(EPS\).*save it as PNG"):
        read_picture(tmp_path / "a.png")


def test_a_file_too_large_to_be_a_picture_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate((1 << 30) + 1)  # takes no room on the disk
    with pytest.raises(DataError, match=r"a\.png is larger than 1 GiB"):
        inspect_picture(tmp_path / "a.png")


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    four_colours().save(tmp_path / "a.png")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"a\.png may not be read; change its permissions"):
        inspect_picture(tmp_path / "a.png")


@pytest.mark.parametrize(("suffix", "plugin"), [("heic", "pillow_heif"), ("jxl", "pillow_jxl")])
def test_plug_ins_read_what_pillow_does_not_whatever_it_is_called(tmp_path, suffix, plugin):
    module = pytest.importorskip(plugin)
    if plugin == "pillow_heif":
        module.register_heif_opener()
    for name in (f"a.{suffix}", "b.jpg"):
        four_colours((64, 48)).save(tmp_path / name, format={"heic": "HEIF", "jxl": "JXL"}[suffix], quality=95)
        assert inspect_picture(tmp_path / name).size == (64, 48)
        assert (
            np.abs(np.asarray(read_picture(tmp_path / name), int) - np.asarray(four_colours((64, 48)), int)).mean() < 9
        )
    data = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"b\.jpg.*remove it"):
        inspect_picture(tmp_path / "b.jpg")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC picture.*pip install pillow-heif"),
        (b"\xff\x0a\0\0", "a JPEG XL picture.*pip install pillow-jxl-plugin"),
    ],
)
def test_without_the_plug_in_the_pip_line_is_said(tmp_path, monkeypatch, head, said):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    (tmp_path / "a.jpg").write_bytes(head + b"\0" * 40)
    with pytest.raises(DataError, match=rf"a\.jpg is {said}, or save as PNG"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (120, 100), (300, 200), (511, 64), (1600, 900), (1, 1500)])
@pytest.mark.parametrize("container", [False, True])
def test_a_jpeg_xl_says_its_size_before_it_is_decoded(tmp_path, size, container):
    pillow_jxl = pytest.importorskip("pillow_jxl")
    assert pillow_jxl
    Image.new("RGB", size, "red").save(tmp_path / "a.jxl", use_container=container)
    assert size_in_header((tmp_path / "a.jxl").read_bytes()) == size


def test_a_jpeg_xl_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    plugin = pytest.importorskip("pillow_jxl.JpegXLImagePlugin")
    monkeypatch.setattr(plugin, "Decoder", lambda **_: pytest.fail("it was decoded"))
    # small = 0, height 20000 = 1 + 19999 in 18 bits (selector 2), ratio 1:1
    bits = 0 | 2 << 1 | 19_999 << 3 | 1 << 21
    (tmp_path / "bomb.jxl").write_bytes(b"\xff\x0a" + bits.to_bytes(10, "little"))
    with pytest.raises(DataError, match=r"more than 64 million pixels.*20000×20000"):
        read_picture(tmp_path / "bomb.jxl")


@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x18ftypheic"]))
def test_headers_of_any_bytes_are_read_or_refused_in_a_sentence(tmp_path_factory, body, head):
    path = tmp_path_factory.mktemp("any") / "a.png"
    path.write_bytes(head + body)
    with pytest.raises(DataError, match=r"a\.png"):
        inspect_picture(path)
