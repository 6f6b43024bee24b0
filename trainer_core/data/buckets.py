"""Buckets by kohya's rule: pictures of like shape are trained together, at about the same area.

Source: sd-scripts 48d368fa, `make_bucket_resolutions` in library/model_util.py and `BucketManager` in
library/train_util.py."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..config import DatasetConfig
from ..errors import ConfigError, DataError

Size = tuple[int, int]  # width, height in pixels
LATENT_STEP = 8  # pixels per latent: the VAEs of SD 1, 2 and XL shrink by 8


@dataclass(frozen=True)
class Placement:
    """Where a picture goes: resized as a whole to `resized`, then `bucket` is cut out of it at `crop`.

    bucket, resized: (width, height). crop: (left, top) in pixels of the resized picture. mirrored: left and right
    change places after that."""

    bucket: Size
    resized: Size
    crop: Size
    mirrored: bool = False


def assign_buckets(sizes: Sequence[Size], config: DatasetConfig) -> list[Placement]:
    """Each picture's placement, in the order of `sizes` (width, height).

    Raises ConfigError for settings that contradict each other, DataError for a picture that is too small."""
    check_bucket_settings(config)
    if not config.enable_bucket:
        return [cover(size, (config.resolution, config.resolution)) for size in sizes]
    if config.bucket_no_upscale:
        return [_place_without_enlarging(size, config) for size in sizes]
    buckets = bucket_resolutions(config)
    return [cover(size, _nearest_bucket(size, buckets)) for size in sizes]


def bucket_resolutions(config: DatasetConfig) -> list[Size]:
    """Every bucket that pictures may be put in, sorted: one of each width that keeps the area, and its transpose.

    With `bucket_no_upscale` kohya has no such list: the pictures make the buckets."""
    if not config.enable_bucket:
        return [(config.resolution, config.resolution)]
    area, step = config.resolution**2, config.bucket_reso_steps
    shortest, longest = bucket_limits(config)
    square = config.resolution // step * step
    buckets = {(square, square)}
    for width in range(shortest, longest + 1, step):
        height = min(longest, area // width // step * step)
        if height >= shortest:
            buckets |= {(width, height), (height, width)}
    return sorted(buckets)


def bucket_limits(config: DatasetConfig) -> Size:
    """The shortest and longest side in effect: rounded outwards to bucket steps as kohya does.

    kohya refuses a `min_bucket_reso` above the resolution and a `max_bucket_reso` below it. People type only a
    resolution, so the first gives way to half the resolution (256 is half of kohya's 512) and the second to the
    resolution itself; `bucket_warnings` says so."""
    step, resolution = config.bucket_reso_steps, config.resolution
    shortest = config.min_bucket_reso // step * step or step
    longest = _rounded_up(config.max_bucket_reso, step)
    if shortest > resolution:
        shortest = _rounded_up(resolution // 2, step)
    if longest < resolution:
        longest = _rounded_up(resolution, step)
    return shortest, longest


def check_bucket_settings(config: DatasetConfig) -> None:
    """Raise ConfigError, with the cure, for settings under which no picture has a sensible bucket."""
    step, resolution = config.bucket_reso_steps, config.resolution
    if not config.enable_bucket:
        if resolution % LATENT_STEP:
            nearest = round(resolution / LATENT_STEP) * LATENT_STEP
            raise ConfigError(f"resolution {resolution} is not a multiple of {LATENT_STEP}; give {nearest}")
        return
    if step % LATENT_STEP:
        raise ConfigError(f"bucket_reso_steps {step} is not a multiple of {LATENT_STEP}; give 64, or 32 for SDXL")
    if step > resolution:
        raise ConfigError(f"bucket_reso_steps {step} is above the resolution {resolution}; lower it to {resolution}")
    if config.min_bucket_reso > config.max_bucket_reso:
        raise ConfigError(
            f"min_bucket_reso {config.min_bucket_reso} is above max_bucket_reso {config.max_bucket_reso}; swap them"
        )


def bucket_warnings(config: DatasetConfig) -> tuple[str, ...]:
    """What a person should know of the bucket settings before training: limits that gave way, area that is lost."""
    if not config.enable_bucket:
        return ()
    resolution, step = config.resolution, config.bucket_reso_steps
    square = resolution // step * step
    said = []
    if square != resolution:
        said.append(
            f"resolution {resolution} is no multiple of bucket_reso_steps {step}: "
            f"square pictures are trained at {square}×{square}"
        )
    if config.bucket_no_upscale:
        return tuple(said)  # no limits: the pictures make the buckets
    shortest, longest = bucket_limits(config)
    if config.min_bucket_reso // step * step > resolution:
        said.append(
            f"min_bucket_reso {config.min_bucket_reso} is above the resolution {resolution}; {shortest} is used instead"
        )
    if longest <= square:
        said.append(
            f"max_bucket_reso {config.max_bucket_reso} leaves no side longer than the resolution {resolution}: "
            f"only square pictures are trained at full area; {2 * resolution} keeps it for all"
        )
    return tuple(said)


def why_too_small(size: Size, config: DatasetConfig) -> str | None:
    """Why a picture (width, height) has no bucket, and the cure; None where it has one, as every enlarged one has."""
    if not (config.enable_bucket and config.bucket_no_upscale):
        return None
    width, height = _shrunk(size, config.resolution**2, config.bucket_reso_steps)
    if min(width, height) >= config.bucket_reso_steps:
        return None
    return (
        f"{size[0]}×{size[1]} would be trained at {width}×{height}, less than a bucket step "
        f"({config.bucket_reso_steps}) on a side; remove it or turn bucket_no_upscale off"
    )


def cover(size: Size, bucket: Size) -> Placement:
    """Resize a picture of `size` (width, height) until it just covers `bucket`, and crop the centre."""
    width, height = size
    scale = bucket[1] / height if width / height > bucket[0] / bucket[1] else bucket[0] / width
    return _centred(bucket, (_rounded(width * scale), _rounded(height * scale)))


def bucket_info(placements: Sequence[Placement], repeats: Sequence[int], sizes: Sequence[Size]) -> dict[str, Any]:
    """kohya's `ss_bucket_info`: pictures per bucket (repeats counted) and the mean error of aspect ratio."""
    counts: Counter[Size] = Counter()
    for placement, times in zip(placements, repeats, strict=True):
        counts[placement.bucket] += times
    errors = [abs(each.bucket[0] / each.bucket[1] - w / h) for each, (w, h) in zip(placements, sizes, strict=True)]
    numbered = {i: {"resolution": list(bucket), "count": counts[bucket]} for i, bucket in enumerate(sorted(counts))}
    return {"buckets": numbered, "mean_img_ar_error": sum(errors) / len(errors) if errors else 0}


def _nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    if size in buckets:
        return size
    aspect = size[0] / size[1]
    return min(buckets, key=lambda bucket: abs(bucket[0] / bucket[1] - aspect))  # the first of equals, as argmin gives


def _place_without_enlarging(size: Size, config: DatasetConfig) -> Placement:
    if reason := why_too_small(size, config):
        raise DataError(f"a picture of {reason}")
    step = config.bucket_reso_steps
    width, height = resized = _shrunk(size, config.resolution**2, step)
    return _centred((width // step * step, height // step * step), resized)


def _shrunk(size: Size, area: int, step: int) -> Size:
    """The size at which a picture is trained when it may only shrink: one side is brought to a multiple of `step`,
    whichever side keeps the aspect ratio better."""
    width, height = size
    if width * height <= area:
        return size
    aspect = width / height
    ideal_width = math.sqrt(area * aspect)
    ideal_height = area / ideal_width
    by_width, by_height = _rounded_to_step(ideal_width, step), _rounded_to_step(ideal_height, step)
    width_height = _rounded_to_step(by_width / aspect, step)
    height_width = _rounded_to_step(by_height * aspect, step)
    if not (by_width and by_height and width_height and height_width):
        return _rounded(ideal_width), _rounded(ideal_height)  # a strip; kohya divides by zero here
    if abs(by_width / width_height - aspect) < abs(height_width / by_height - aspect):
        return by_width, _rounded(by_width / aspect)
    return _rounded(by_height * aspect), by_height


def _centred(bucket: Size, resized: Size) -> Placement:
    return Placement(bucket, resized, ((resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2))


def _rounded(length: float) -> int:
    return int(length + 0.5)


def _rounded_to_step(length: float, step: int) -> int:
    return _rounded(length) // step * step


def _rounded_up(length: int, step: int) -> int:
    return -(-length // step) * step
