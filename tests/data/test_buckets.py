"""Buckets: kohya's numbers, and what must hold for every picture."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.config import DatasetConfig
from trainer_core.data.buckets import (
    Placement,
    assign_buckets,
    bucket_info,
    bucket_limits,
    bucket_resolutions,
    bucket_warnings,
    why_too_small,
)
from trainer_core.errors import ConfigError, DataError

sides = st.integers(1, 6000)
sizes = st.tuples(sides, sides)
configs = st.builds(
    DatasetConfig,
    folder=st.just("x"),
    resolution=st.integers(8, 256).map(lambda n: n * 8),
    min_bucket_reso=st.integers(64, 512),
    max_bucket_reso=st.integers(512, 2048),
    bucket_reso_steps=st.sampled_from([8, 16, 32, 64]),
    bucket_no_upscale=st.booleans(),
    enable_bucket=st.booleans(),
)


def config(**settings) -> DatasetConfig:
    return DatasetConfig(folder="x", **settings)


def place(size: tuple[int, int], **settings) -> Placement:
    return assign_buckets([size], config(**settings))[0]


def test_kohyas_seventeen_buckets_for_512():
    assert bucket_resolutions(config(resolution=512)) == [
        (256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576), (512, 512),
        (576, 448), (640, 384), (704, 320), (768, 320), (832, 256), (896, 256), (960, 256), (1024, 256),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resolution", "shortest", "longest", "count"), [(512, 256, 1024, 17), (1024, 256, 1024, 25), (1024, 512, 2048, 33)]
)
def test_kohyas_number_of_buckets(resolution, shortest, longest, count):
    settings = config(resolution=resolution, min_bucket_reso=shortest, max_bucket_reso=longest)
    assert len(bucket_resolutions(settings)) == count


# made by sd-scripts 48d368fa: BucketManager(no_upscale, (512, 512), 256, 1024, 64).select_bucket(*size)
@pytest.mark.parametrize(
    ("size", "no_upscale", "bucket", "resized"),
    [
        ((1000, 1000), False, (512, 512), (512, 512)),
        ((1282, 960), False, (576, 448), (598, 448)),
        ((960, 1282), False, (448, 576), (448, 598)),
        ((832, 256), False, (832, 256), (832, 256)),
        ((100, 30), False, (832, 256), (853, 256)),
        ((4000, 300), False, (1024, 256), (3413, 256)),
        ((500, 300), True, (448, 256), (500, 300)),
        ((1282, 960), True, (512, 384), (513, 384)),
        ((3000, 1000), True, (768, 256), (768, 256)),
        ((700, 1600), True, (320, 704), (320, 731)),
    ],
)
def test_kohyas_choice(size, no_upscale, bucket, resized):
    placement = place(size, bucket_no_upscale=no_upscale)
    assert (placement.bucket, placement.resized) == (bucket, resized)


@given(size=sizes, settings=configs)
def test_every_picture_is_covered_by_exactly_one_bucket(size, settings):
    if why_too_small(size, settings):
        with pytest.raises(DataError, match="bucket_no_upscale"):
            assign_buckets([size], settings)
        return
    (placement,) = assign_buckets([size], settings)
    for bucket, resized, crop in zip(placement.bucket, placement.resized, placement.crop, strict=True):
        assert bucket >= 8
        assert bucket % (settings.bucket_reso_steps if settings.enable_bucket else 8) == 0
        assert 0 <= crop <= resized - bucket
        assert abs(resized - bucket - 2 * crop) <= 1, "the crop is centred"
    if not settings.bucket_no_upscale:
        assert placement.bucket in bucket_resolutions(settings)


@given(size=sizes, settings=configs)
def test_buckets_never_have_more_area_than_asked_for(size, settings):
    if not why_too_small(size, settings):
        (placement,) = assign_buckets([size], settings)
        # kohya's rounding of a shrunk side may add half a step
        slack = settings.bucket_reso_steps * max(placement.bucket) if settings.bucket_no_upscale else 0
        assert math.prod(placement.bucket) <= settings.resolution**2 + slack


@given(size=sizes)
def test_portrait_stays_portrait(size):
    width, height = size
    bucket = place(size).bucket
    assert (bucket[0] <= bucket[1]) if width <= height else (bucket[0] >= bucket[1])


@given(size=sizes)
def test_no_upscale_never_enlarges(size):
    settings = config(bucket_no_upscale=True)
    if not why_too_small(size, settings) and math.prod(size) <= 512**2:
        assert assign_buckets([size], settings)[0].resized == size


def test_without_buckets_every_picture_is_square():
    placement = place((1200, 800), enable_bucket=False, resolution=520)
    assert placement == Placement((520, 520), (780, 520), (130, 0))


def test_limits_are_rounded_outwards_as_kohya_does():
    assert bucket_limits(config(min_bucket_reso=300, max_bucket_reso=1000)) == (256, 1024)


def test_only_a_resolution_need_be_typed():
    assert bucket_resolutions(config(resolution=64)) == [(64, 64)]
    small = bucket_resolutions(config(resolution=64, bucket_reso_steps=8))
    assert (64, 64) in small and (48, 80) in small and min(map(min, small)) == 32
    assert "min_bucket_reso 256 is above the resolution 64" in bucket_warnings(config(resolution=64))[0]
    large = config(resolution=1536)
    assert (1536, 1536) in bucket_resolutions(large)
    assert "3072" in bucket_warnings(large)[0]


def test_nothing_to_say_about_the_defaults():
    assert bucket_warnings(config()) == ()


def test_lost_area_is_said():
    assert "2048" in bucket_warnings(config(resolution=1024))[0]
    assert "448×448" in bucket_warnings(config(resolution=500))[0]


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"bucket_reso_steps": 60}, "give 64"),
        ({"bucket_reso_steps": 640}, "lower it to 512"),
        ({"min_bucket_reso": 1024, "max_bucket_reso": 512}, "swap them"),
        ({"enable_bucket": False, "resolution": 500}, "give 496"),
    ],
)
def test_contradictions_name_the_cure(settings, cure):
    with pytest.raises(ConfigError, match=cure):
        assign_buckets([(512, 512)], config(**settings))


def test_bucket_info_has_kohyas_shape():
    sizes = [(512, 512), (512, 512), (1282, 960)]
    info = bucket_info(assign_buckets(sizes, config()), [1, 2, 10], sizes)
    assert info["buckets"] == {0: {"resolution": [512, 512], "count": 3}, 1: {"resolution": [576, 448], "count": 10}}
    assert info["mean_img_ar_error"] == pytest.approx((1282 / 960 - 576 / 448) / 3)
