"""What a run is trained on: pictures as latents, with masks and weights, and captions as the model reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .data.batches import Batch
from .data.cache import LatentCache, TextCache
from .data.captions import for_run, has_chance, settings_of, training_caption
from .data.masks import Masks
from .data.regularisation import importance_of
from .diffusion.cond import Cond
from .events import Event
from .plan import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from .hosts.base import Host, TextOptions

_KEPT_TEXT_BYTES = 2**29  # on the device, of captions that a later epoch will see again


class Material:
    """The dataset as a step takes it. What does not change while the run learns is computed once and kept."""

    def __init__(self, plan: Plan, host: Host, cache_dir: Path, text_options: TextOptions, trains_text: bool):
        """cache_dir: where latents are kept between runs. trains_text: whether a text encoder learns, so that its
        encodings change and cannot be kept."""
        config, examples, placements = plan.config, plan.dataset.examples, plan.placements
        self._host, self._text_options, self._trains_text = host, text_options, trains_text
        self._examples, self._seed = examples, config.seed
        self.latents = LatentCache(
            examples,
            placements,
            host.encode_images,
            host.vae_fingerprint(),
            cache_dir,
            host.device,
            mirrored_too=config.dataset.flip_aug,
        )
        self.masks = Masks(examples, placements, config.dataset, host.device)
        self._importance = importance_of(examples, config.loss.prior_loss_weight, host.device)
        self._captioning = for_run(config.dataset, plan.total_steps, trains_text)
        has_variants = any(has_chance(settings_of(each, config.dataset)) for each in examples)
        comes_back = has_variants and self._captioning.caption_variants > 0
        self._texts = TextCache(self._encode_texts, kept_bytes=_KEPT_TEXT_BYTES if comes_back else 0)

    def fill_pictures(self) -> Iterator[Event]:
        """Encode the pictures that are not cached yet, and read their masks."""
        yield from self.latents.fill()
        yield from self.masks.fill(self.latents.latent_size)

    def fill_captions(self, epoch: int, step: int, windows: Sequence[tuple[Batch, ...]]) -> Iterator[Event]:
        """Encode the captions of an epoch's windows, the first of them after so many steps, that are not cached yet;
        nothing to do while a text encoder learns."""
        if not self._trains_text:
            captions = {
                caption
                for at, window in enumerate(windows, start=step)
                for batch in window
                for caption in self._captions(epoch, batch, at)
            }
            yield from self._texts.fill(sorted(captions))

    def importance(self, batch: Batch) -> Tensor | None:
        """Each picture's own weight in the loss, [B] on the device; None where all weigh alike."""
        if self._importance is None:
            return None
        return torch.stack([self._importance[index] for index in batch.indices])

    def conditioning(self, epoch: int, batch: Batch, step: int) -> Cond:
        """The batch's captions as the model reads them, so many steps into the run."""
        captions = self._captions(epoch, batch, step)
        return self._encode_texts(captions) if self._trains_text else self._texts.get(captions)

    def _captions(self, epoch: int, batch: Batch, step: int) -> list[str]:
        """What the batch's pictures are captioned with in this epoch, so many steps into the run."""
        return [
            training_caption(self._examples[index], self._captioning, self._seed, epoch, turn, step)
            for index, turn in zip(batch.indices, batch.turns, strict=True)
        ]

    def _encode_texts(self, captions: Sequence[str]) -> Cond:
        return self._host.encode_texts(captions, self._text_options)
