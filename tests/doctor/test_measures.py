"""What pictures look like and how sharp they are, against imagehash and against what was done to them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from trainer_core.doctor.likeness import NEAR_BITS, _bits, look_alikes
from trainer_core.doctor.measures import blur, measure, perceptual_hash
from trainer_core.errors import DataError


def bits_apart(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("seed", range(8))
def test_the_hash_is_imagehash_s_bit_for_bit(photo, seed):
    imagehash = pytest.importorskip("imagehash")
    grey = photo(seed, (100 + 7 * seed, 90)).convert("L")
    assert f"{perceptual_hash(grey):016x}" == str(imagehash.phash(grey))


def test_the_hash_of_a_known_picture():
    # str(imagehash.phash(picture)) of ImageHash 4.3.2
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    picture = Image.fromarray(((x * x + 3 * y * y) // 7 % 256).astype(np.uint8))
    assert f"{perceptual_hash(picture):016x}" == "8d1d0d19193bf2f2"


def test_saving_anew_and_shrinking_keep_the_looks_and_other_pictures_have_others(photo):
    picture = photo(1, (640, 480))
    looks = measure(saved(picture), Path("a.png")).looks
    for other in (
        saved(picture, "JPEG", quality=50),
        saved(picture.resize((320, 240))),
        saved(picture.filter(ImageFilter.GaussianBlur(1))),
    ):
        assert bits_apart(measure(other, Path("b")).looks, looks) <= NEAR_BITS
    assert bits_apart(measure(saved(photo(2, (640, 480))), Path("c.png")).looks, looks) > 2 * NEAR_BITS


def test_a_turned_photo_looks_as_it_is_shown(photo):
    upright = photo(3, (96, 128))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° to the right
    turned = saved(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    looks = measure(saved(upright), Path("a.png")).looks
    assert bits_apart(measure(turned, Path("b.jpg")).looks, looks) <= NEAR_BITS


def test_an_empty_picture_has_no_looks():
    found = measure(saved(Image.new("RGB", (64, 64), "white")), Path("a.png"))
    assert (found.looks, found.blur) == (None, 0.0)


def test_blurring_raises_blur_and_contrast_does_not(photo):
    grey = photo(4, (256, 256)).convert("L")
    steps = [blur(np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32)) for radius in (0, 1, 2, 4)]
    assert steps == sorted(steps) and steps[0] < 0.45 and steps[2] > 0.6
    assert blur(np.asarray(grey, np.float32) * 0.3 + 50) == pytest.approx(steps[0], abs=1e-3)


def test_blur_of_a_worked_example():
    # One edge of height 9 down 20 rows. Before: one difference of 9. After a mean of 9 rows: nine of 1. At the edge
    # 9 - 1 = 8 of 9 are lost, so 1 - 8/9 is left.
    edge = np.repeat(np.array([0] * 10 + [9] * 10, np.float32)[:, None], 12, 1)
    assert blur(edge) == pytest.approx(1 / 9)


def test_a_broken_picture_is_named():
    with pytest.raises(DataError, match=r"a\.jpg"):
        measure(b"\xff\xd8\xff broken", Path("x/a.jpg"))


# -- groups ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 255).map(lambda low: low * 0x0101010101010101)), max_size=12))
def test_groups_are_what_comparing_all_with_all_gives(looks):
    groups = look_alikes(looks)
    group_of = {place: number for number, group in enumerate(groups) for place in group}
    assert sorted(group_of) == sorted({place for group in groups for place in group})
    for one, first in enumerate(looks):
        for other, second in enumerate(looks):
            if one != other and first is not None and second is not None and bits_apart(first, second) <= NEAR_BITS:
                assert group_of[one] == group_of[other]
    assert all(len(group) > 1 and list(group) == sorted(group) for group in groups)


def test_likeness_passes_through_others_and_numpy_1_counts_the_same(monkeypatch):
    chain = [0, 0xFF, 0xFFFF, 2**64 - 1]
    assert look_alikes(chain) == [(0, 1, 2)]
    values = np.array([0, 1, 0xFF, 2**64 - 1, 0x8000000000000001, 0x123456789ABCDEF0], np.uint64)
    expected = [int(value).bit_count() for value in values]
    assert _bits(values).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert _bits(values).tolist() == expected
