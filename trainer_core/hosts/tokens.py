"""Long captions in chunks of 75 tokens, each with its own start and end, as kohya's trainer and the UIs read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 75


def chunked_tokens(ids: Sequence[Sequence[int]], chunks: int, start: int, end: int, pad: int) -> Tensor:
    """Token ids of captions, without start and end, as [B · chunks, 77] int64: plain slices of 75, re-wrapped.

    What does not fit into `chunks` chunks is cut off. pad fills a chunk behind its end token (SD 1.x pads with the end
    token itself, SD 2.x and SDXL's second encoder with 0), as in sd-scripts' strategy_base."""
    rows = [
        _wrapped(caption[number * CHUNK : (number + 1) * CHUNK], start, end, pad)
        for caption in ids
        for number in range(chunks)
    ]
    return torch.tensor(rows, dtype=torch.int64)


def joined_chunks(hidden: Tensor, chunks: int) -> Tensor:
    """[B · chunks, 77, D] → [B, 77 · chunks, D], as the UIs' samplers concatenate them."""
    return hidden.reshape(-1, chunks * hidden.shape[1], hidden.shape[2])


def _wrapped(ids: Sequence[int], start: int, end: int, pad: int) -> list[int]:
    row = [start, *ids, end]
    return row + [pad] * (CHUNK + 2 - len(row))
