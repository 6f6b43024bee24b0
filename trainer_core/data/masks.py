"""Masks: which parts of a picture count in the loss, brought to the size of its latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ..config import DatasetConfig
from ..errors import DataError
from ..events import Cached
from .batches import Batch
from .buckets import Placement, Size
from .cache import with_mirrored
from .examples import Dataset, Example
from .pictures import (
    PICTURE_SUFFIXES,
    content_digest,
    decode_opacity,
    decode_picture,
    fit_to_bucket,
    inspect_picture,
    named,
    read_bytes,
    to_tensor,
)
from .rows import BucketRows

_DECODERS = 2
_MOST_DISTORTION = 0.02  # of the aspect ratio, before a mask counts as another picture's


def with_masks(dataset: Dataset, config: DatasetConfig) -> Dataset:
    """The dataset with each training picture's mask file from `masks_dir`, found by name, whatever its suffix.

    Masks lie in the folder itself, or in folders called as the pictures' own (`masks/10_cat/03.png`). A picture without
    one counts as a whole, and a warning says so. Raises DataError for a folder without masks, for a mask that cannot be
    read, and for one whose shape is not its picture's."""
    if not config.masks_dir.strip():
        return dataset
    root = Path(config.masks_dir.strip()).expanduser()
    if not root.is_dir():
        raise DataError(f"masks_dir {root} is no folder; choose the one that holds the masks")
    masks_of = {folder: _masks_in(root / folder) for folder in {each.folder for each in dataset.subjects}}
    loose = _masks_in(root)
    examples = [
        example if example.is_reg else _masked(example, masks_of[example.folder], loose) for example in dataset.examples
    ]
    bare = [example for example in examples if not example.is_reg and not example.mask]
    if len(bare) == len(dataset.subjects):
        raise DataError(f"masks_dir {root} has no mask for any picture; name masks like their pictures, as 03.png")
    warnings = dataset.warnings
    if bare:
        others = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
        warnings = (*warnings, f"{bare[0].name}{others} without a mask in {root.name}: counted as a whole")
    return replace(dataset, examples=tuple(examples), warnings=warnings)


class Masks:
    """The masks of all pictures at the size of their latents, on the device; `fill` before `get`."""

    def __init__(
        self,
        examples: Sequence[Example],
        placements: Sequence[Placement],
        config: DatasetConfig,
        device: torch.device | str = "cpu",
    ):
        """examples and placements: in the dataset's order. A mask file wins over transparency, as kohya has it."""
        self._pictures = len(examples)
        self._examples, self._placements = (
            with_mirrored(examples, placements) if config.flip_aug else (examples, placements)
        )
        self._counts_opacity = config.alpha_mask
        buckets = [placement.bucket for placement in self._placements]
        self._masks = BucketRows(buckets, range(len(buckets)), device)  # each [1, h, w]

    @property
    def is_used(self) -> bool:
        """Whether any picture may have a part that does not count."""
        return self._counts_opacity or any(example.mask for example in self._examples)

    def fill(self, latent_size: Callable[[Size], tuple[int, int]]) -> Iterator[Cached]:
        """Read every mask, and cut and shrink it as its picture is. latent_size: (height, width) of a bucket's latents.

        Raises DataError, naming the file, for one that cannot be decoded or has changed since it was found."""
        if not self.is_used:
            return
        sizes = [latent_size(placement.bucket) for placement in self._placements]
        pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="masks")
        try:
            for view, mask in enumerate(pool.map(self._mask, self._examples, self._placements, sizes)):
                self._masks.put(view, mask)
                yield Cached("masks", view + 1, len(self._examples))
        finally:
            pool.shutdown(cancel_futures=True)

    def get(self, batch: Batch) -> Tensor | None:
        """The batch's masks, [B, 1, h, w] fp32 in [0, 1] on the device; None where all of every picture counts."""
        return self._masks.batch(batch, self._pictures) if self.is_used else None

    def _mask(self, example: Example, placement: Placement, size: tuple[int, int]) -> Tensor:
        """[1, h, w] fp32 in [0, 1]: the red channel, as kohya reads it, cut as the picture is and averaged."""
        image = self._mask_picture(example)
        if image is None:
            return torch.ones(1, *size)
        mask = (to_tensor(fit_to_bucket(image, placement))[:1] + 1) / 2
        return interpolate(mask[None], size, mode="area")[0]

    def _mask_picture(self, example: Example) -> Image.Image | None:
        if example.mask:
            return decode_picture(_unchanged(example.mask, example.mask_digest), example.mask)
        if self._counts_opacity:
            return decode_opacity(_unchanged(example.path, example.digest), example.path)
        return None


def _masks_in(folder: Path) -> dict[str, Path]:
    """The pictures in a folder by their names without suffix; none where there is no such folder."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES}


def _masked(example: Example, beside: Mapping[str, Path], loose: Mapping[str, Path]) -> Example:
    path = beside.get(example.path.stem) or loose.get(example.path.stem)
    if path is None:
        return example
    facts = inspect_picture(path)
    (width, height), (own_width, own_height) = facts.size, example.size
    if abs(width * own_height / (height * own_width) - 1) > _MOST_DISTORTION:
        raise DataError(
            f"the mask {named(path)} is {width}×{height} and its picture {own_width}×{own_height}; "
            "give it the picture's shape"
        )
    return replace(example, mask=path, mask_digest=facts.digest)


def _unchanged(path: Path, digest: str) -> bytes:
    data = read_bytes(path)
    if content_digest(data) != digest:
        raise DataError(f"{named(path)} was changed while it was being prepared; start the run again")
    return data
