"""What is computed once and trained on often: the pictures' latents, on disk and in memory; the captions' encodings."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..errors import DataError
from ..events import Cached, Warned
from .batches import Batch
from .buckets import Placement, Size
from .examples import Example
from .pictures import content_digest, decode_picture, fit_to_bucket, read_bytes, size_conditioning, to_tensor
from .rows import BucketRows

_LAYOUT = "latents 1"  # part of every key: raise it when pictures are prepared differently
_SHRINKS = (4, 8, 16, 32)  # pixels per latent of the VAEs there are
_DECODERS = 2  # threads; one is faster than most VAEs, two cover large photos
_BATCHES_AHEAD = 2


class LatentCache:
    """Every picture's latents: made once, kept on disk by content, and in memory so that a batch is a few row reads.

    `fill` before `get`."""

    def __init__(
        self,
        examples: Sequence[Example],
        placements: Sequence[Placement],
        encode: Callable[[Tensor], Tensor],
        vae_fingerprint: str,
        folder: Path | None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        memory_budget: int = 2**31,
        pixels_per_encode: int = 2**20,
        mirrored_too: bool = False,
    ):
        """examples and placements: in the dataset's order, which is that of `Batch.indices`.

        encode: pixels [B, 3, H, W] fp32 in [-1, 1], on the device → latents [B, C, H/8, W/8]. vae_fingerprint: tells
        VAEs apart, on disk. folder: where latents are kept between runs; None keeps none. device, dtype: of what `get`
        gives. memory_budget: bytes; more latents than that wait in the CPU's memory, pinned where the device is CUDA.
        pixels_per_encode: how many pictures are encoded at once, by their area: 4 of 512², 1 of 1024². mirrored_too:
        whether batches may ask for mirrored pictures, whose latents are other ones than the pictures' own, mirrored."""
        self._pictures = len(examples)
        self._examples, self._placements = (
            with_mirrored(examples, placements) if mirrored_too else (examples, placements)
        )
        self._encode = encode
        self._folder = folder
        self._device = torch.device(device)
        self._pixels_per_encode = pixels_per_encode
        pairs = list(zip(self._examples, self._placements, strict=True))
        self._keys = [latent_key(example.digest, placement, vae_fingerprint) for example, placement in pairs]
        buckets = [placement.bucket for placement in self._placements]
        self._latents = BucketRows(buckets, self._keys, device, dtype, memory_budget)  # each [C, h, w]
        sizes = [size_conditioning(example.size, placement) for example, placement in pairs]
        self._sizes = torch.tensor(sizes, dtype=torch.float32, device=self._device)  # [views, 6]

    def fill(self) -> Iterator[Cached | Warned]:
        """Read what is on disk, encode the rest, and bring it all to where `get` wants it.

        Raises DataError, naming the picture, for one that cannot be decoded, that has changed since it was scanned,
        or whose latents are not numbers."""
        done, total = 0, len(self._examples)
        pictures_of = Counter(self._keys)  # copies of a picture share their latents
        at_hand: set[str] = set()
        missing: list[int] = []
        for index, key in enumerate(self._keys):
            if key not in at_hand:
                kept = self._from_disk(index)
                if kept is None:
                    missing.append(index)
                    continue
                self._latents.put(index, kept)
                at_hand.add(key)
            done += 1
            yield Cached("latents", done, total)
        can_write = self._folder is not None
        for indices, encoded in self._encoded(missing):
            for index, latent in zip(indices, encoded, strict=True):
                self._latents.put(index, latent)
                if can_write and (trouble := self._to_disk(index, latent)):
                    can_write = False
                    yield Warned(trouble)
            done += sum(pictures_of[self._keys[index]] for index in indices)
            yield Cached("latents", done, total)

    def get(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Latents [B, C, h, w] and SDXL's sizes [B, 6] (`pictures.size_conditioning`), on the device, unsynced."""
        sizes = [self._sizes[view] for view in batch.views(self._pictures)]
        return self._latents.batch(batch, self._pictures), torch.stack(sizes)

    def latent_size(self, bucket: Size) -> tuple[int, int]:
        """(height, width) of the latents of a bucket's pictures, once they are filled."""
        height, width = self._latents.shape(bucket)[-2:]
        return height, width

    def path(self, index: int) -> Path | None:
        """The file that keeps the latents of a picture of the dataset, whether it is there or not."""
        key = self._keys[index]
        # not called .safetensors, as the UIs would list it among the LoRAs
        return self._folder / key[:2] / f"{key}.latents" if self._folder else None

    def _encoded(self, missing: Sequence[int]) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Batches of same-size pictures with their latents; the next are decoded while one is encoded."""
        waiting = deque(self._encode_batches(missing))
        decoding: deque[tuple[list[int], list[Future[Tensor]]]] = deque()
        pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        try:
            while waiting or decoding:
                while waiting and len(decoding) <= _BATCHES_AHEAD:
                    indices = waiting.popleft()
                    decoding.append((indices, [pool.submit(self._pixels, index) for index in indices]))
                indices, pixels = decoding.popleft()
                yield indices, self._encoded_once(indices, torch.stack([each.result() for each in pixels]))
        finally:
            pool.shutdown(cancel_futures=True)

    def _encode_batches(self, missing: Sequence[int]) -> list[list[int]]:
        by_bucket: dict[Size, list[int]] = {}
        first_of_key = {self._keys[index]: index for index in reversed(missing)}
        for index in sorted(first_of_key.values()):
            by_bucket.setdefault(self._placements[index].bucket, []).append(index)
        batches = []
        for (width, height), indices in by_bucket.items():
            size = max(1, self._pixels_per_encode // (width * height))
            batches += [indices[start : start + size] for start in range(0, len(indices), size)]
        return batches

    def _pixels(self, index: int) -> Tensor:
        example = self._examples[index]
        data = read_bytes(example.path)
        if content_digest(data) != example.digest:
            raise DataError(f"{example.name} was changed while it was being prepared; start the run again")
        return to_tensor(fit_to_bucket(decode_picture(data, example.path), self._placements[index]))

    def _encoded_once(self, indices: Sequence[int], pixels: Tensor) -> Tensor:
        with torch.no_grad():
            latents = self._encode(pixels.to(self._device)).detach().to("cpu", torch.float32)
        for index, latent in zip(indices, latents, strict=True):
            if not torch.isfinite(latent).all():
                raise DataError(
                    f"the VAE turned {self._examples[index].name} into values that are not numbers; "
                    "run the VAE in fp32 (no-half-vae) or choose another VAE"
                )
        return latents

    def _from_disk(self, index: int) -> Tensor | None:
        """The kept latents, or None where there are none or the file is damaged: then they are made anew."""
        path = self.path(index)
        if path is None:
            return None
        try:
            latent = safetensors.torch.load(path.read_bytes())["latents"]
        except (OSError, KeyError, ValueError, safetensors.SafetensorError):
            return None
        width, height = self._placements[index].bucket
        is_sound = latent.dim() == 3 and (width, height) in [
            (shrink * latent.shape[2], shrink * latent.shape[1]) for shrink in _SHRINKS
        ]
        return latent.to(torch.float32) if is_sound and torch.isfinite(latent).all() else None

    def _to_disk(self, index: int, latent: Tensor) -> str | None:
        """Keep the latents for other runs; a sentence for the person if that fails, as training can do without."""
        path = self.path(index)
        assert path is not None
        # unlike any other writer's: two processes, or two threads of one, may fill one cache
        unfinished = path.with_name(f"{path.stem}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(safetensors.torch.save({"latents": latent.contiguous()}))
            os.replace(unfinished, path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            if path.is_file():  # Windows refuses to replace a file that another process reads: it is the same one
                return None
            return (
                f"latents cannot be kept in {self._folder} ({error.strerror}), so the next run will encode them again"
            )
        return None


def with_mirrored(
    examples: Sequence[Example], placements: Sequence[Placement]
) -> tuple[Sequence[Example], Sequence[Placement]]:
    """Every picture, and behind them every picture mirrored: the order of `Batch.views`."""
    return [*examples, *examples], [*placements, *(replace(placement, mirrored=True) for placement in placements)]


def latent_key(digest: str, placement: Placement, vae_fingerprint: str) -> str:
    """Hex name of a picture's latents: its content, how it is resized and cropped, and by which VAE it is encoded."""
    facts = [_LAYOUT, digest, placement.resized, placement.crop, placement.bucket, vae_fingerprint]
    facts += ["mirrored"] if placement.mirrored else []
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class Conditioning(Protocol):
    """What this cache needs of a caption's encoding: tensors with a leading batch dimension (`diffusion.cond.Cond`)."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Any:
        """The same with each of its tensors changed."""
        ...

    @staticmethod
    def cat(conds: Sequence[Any]) -> Any:
        """One batch out of several."""
        ...


K = TypeVar("K", bound=Conditioning)


class TextCache(Generic[K]):
    """The encodings of distinct captions, for text encoders that are not trained; kept where `encode` puts them."""

    def __init__(self, encode: Callable[[Sequence[str]], K], captions_per_encode: int = 8, kept_bytes: int = 0):
        """encode: captions → their conditioning, one row each, every row of the same shape. kept_bytes: how much of
        what was at hand may stay for another `fill` to ask for again."""
        self._encode = encode
        self._captions_per_encode = captions_per_encode
        self._kept_bytes = kept_bytes
        self._rows: dict[str, K] = {}

    def fill(self, captions: Iterable[str]) -> Iterator[Cached]:
        """Have these captions at hand: new ones are encoded. Of those that are not asked for any more the latest stay,
        as many as `kept_bytes` allows, and the others are forgotten, so that they do not pile up epoch by epoch."""
        wanted = dict.fromkeys(captions)
        self._forget_all_but(wanted)
        done = sum(caption in self._rows for caption in wanted)
        for encoded in self._encoded(wanted):
            done += encoded
            yield Cached("captions", done, len(wanted))

    def get(self, captions: Sequence[str]) -> K:
        """The captions' conditioning as one batch, in their order; a caption that is not at hand is encoded now."""
        for _ in self._encoded(dict.fromkeys(captions)):
            pass
        rows = [self._rows[caption] for caption in captions]
        return type(rows[0]).cat(rows)

    def _forget_all_but(self, wanted: Collection[str]) -> None:
        """Put the wanted rows behind the others, so that the first are those that nobody has asked for for longest."""
        others = {caption: row for caption, row in self._rows.items() if caption not in wanted}
        left = self._kept_bytes
        kept: list[str] = []
        for caption in reversed(others):
            left -= _bytes(others[caption])
            if left < 0:
                break
            kept.append(caption)
        again = {caption: self._rows[caption] for caption in wanted if caption in self._rows}
        self._rows = {caption: others[caption] for caption in reversed(kept)} | again

    def _encoded(self, captions: Iterable[str]) -> Iterator[int]:
        """Encode what is not at hand, one yield for each batch: how many captions it had.

        Batches are filled up to one size: devices compute other last bits for other sizes. A caption must not depend on
        which others happened to be missing, or a resumed run would differ."""
        missing = [caption for caption in captions if caption not in self._rows]
        size = self._captions_per_encode
        for start in range(0, len(missing), size):
            batch = missing[start : start + size]
            with torch.no_grad():
                encoded = self._encode(batch + batch[-1:] * (size - len(batch)))
            self._rows |= {caption: encoded.map(_row(i)) for i, caption in enumerate(batch)}
            yield len(batch)


def _bytes(row: Conditioning) -> int:
    sizes: list[int] = []

    def measure(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    row.map(measure)
    return sum(sizes)


def _row(i: int) -> Callable[[Tensor], Tensor]:
    # a copy, so that the caption does not keep the whole batch it was encoded with alive
    return lambda batch: batch[i : i + 1].detach().clone()
