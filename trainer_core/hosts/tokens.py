"""Long captions in chunks of 75 tokens, each with its own start and end, as kohya's trainer and the UIs read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import TextOptions
from .emphasis import weighted_ids

CHUNK = 75


@dataclass(frozen=True)
class Marks:
    """A tokenizer's special ids. pad fills a chunk behind its end token (SD 1.x pads with the end token itself, SD 2.x
    and SDXL's second encoder with 0), as in sd-scripts' strategy_base."""

    start: int
    end: int
    pad: int


@dataclass(frozen=True)
class TokenRows:
    """Captions as a text encoder reads them, a row for each chunk.

    ids: [B · chunks, 77] int64. lengths: of each row, up to and with its end token. weights: [B · chunks, 77, 1] fp32,
    how much each token counts; None where captions have no weights."""

    ids: Tensor
    lengths: list[int]
    weights: Tensor | None = None

    def weighed(self, hidden: Tensor) -> Tensor:
        """Hidden states [B · chunks, 77, D], each multiplied by its token's weight.

        As sd-scripts' `encode_tokens_with_weights`: start, end and padding count 1, and nothing is scaled back, as
        A1111 does to keep the mean. SDXL's pooled vector is never weighed."""
        if self.weights is None:
            return hidden
        return hidden * self.weights.to(hidden.device, hidden.dtype, non_blocking=True)


def token_rows(
    captions: Sequence[str],
    tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    marks: Marks,
    options: TextOptions,
) -> TokenRows:
    """The captions in `options.chunks` chunks each; what does not fit is cut off.

    tokenize: texts → their token ids, without start and end."""
    if not options.weighted:
        ids = tokenize(captions)
        return TokenRows(chunked_tokens(ids, options.chunks, marks), _lengths(ids, options.chunks))
    weighted = [weighted_ids(caption, tokenize) for caption in captions]
    ids = [caption for caption, _ in weighted]
    weights = [row for _, each in weighted for row in _chunked_weights(each, options.chunks)]
    rows = chunked_tokens(ids, options.chunks, marks)
    return TokenRows(rows, _lengths(ids, options.chunks), torch.tensor(weights, dtype=torch.float32)[..., None])


def chunked_tokens(ids: Sequence[Sequence[int]], chunks: int, marks: Marks) -> Tensor:
    """Token ids of captions, without start and end, as [B · chunks, 77] int64: plain slices of 75, re-wrapped."""
    rows = [_wrapped(part, marks) for caption in ids for part in _sliced(caption, chunks)]
    return torch.tensor(rows, dtype=torch.int64)


def joined_chunks(hidden: Tensor, chunks: int) -> Tensor:
    """[B · chunks, 77, D] → [B, 77 · chunks, D], as the UIs' samplers concatenate them."""
    return hidden.reshape(-1, chunks * hidden.shape[1], hidden.shape[2])


def _sliced(caption: Sequence[int], chunks: int) -> list[Sequence[int]]:
    return [caption[number * CHUNK : (number + 1) * CHUNK] for number in range(chunks)]


def _wrapped(ids: Sequence[int], marks: Marks) -> list[int]:
    row = [marks.start, *ids, marks.end]
    return row + [marks.pad] * (CHUNK + 2 - len(row))


def _lengths(ids: Sequence[Sequence[int]], chunks: int) -> list[int]:
    return [len(part) + 2 for caption in ids for part in _sliced(caption, chunks)]


def _chunked_weights(weights: Sequence[float], chunks: int) -> list[list[float]]:
    parts = [weights[number * CHUNK : (number + 1) * CHUNK] for number in range(chunks)]
    return [[1.0, *part, *[1.0] * (CHUNK + 1 - len(part))] for part in parts]
