"""What a model is conditioned on, for a batch of captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cond:
    """Text (and, for SDXL, size) conditioning of a batch.

    tokens: [B, S, D] hidden states; S is 77 per chunk of 75 tokens.
    pooled: [B, P], SDXL's pooled text vector; None elsewhere.
    sizes: [B, 6], SDXL's (original height, width, crop top, left, target height, width) in pixels; None elsewhere or
    until the picture is known."""

    tokens: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Cond:
        """The same conditioning with each of its tensors changed."""
        return Cond(*(None if each is None else change(each) for each in (self.tokens, self.pooled, self.sizes)))  # type: ignore[arg-type]

    def sized(self, sizes: Tensor) -> Cond:
        """The same conditioning for pictures of the given sizes, [B, 6]."""
        return replace(self, sizes=sizes)

    @staticmethod
    def cat(conds: Sequence[Cond]) -> Cond:
        """One batch out of several."""
        first = conds[0]
        return Cond(
            torch.cat([each.tokens for each in conds]),
            None if first.pooled is None else torch.cat([each.pooled for each in conds]),  # type: ignore[misc]
            None if first.sizes is None else torch.cat([each.sizes for each in conds]),  # type: ignore[misc]
        )
