"""Gradient checkpointing on somebody else's modules: recompute blocks in backward, and leave no trace afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .borrowing import overlaid


@contextmanager
def checkpointed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, each block keeps only its inputs for backward and computes itself again there (Chen et al. 2016,
    arXiv:1604.06174), wherever gradients are recorded. Instances are patched, classes never; all is undone on exit."""
    with ExitStack() as undo:
        for block in blocks:
            undo.enter_context(overlaid(block, "forward", partial(_recomputed, block.forward)))
        yield


def _recomputed(forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # no random state is kept: the adapters' masks follow from their own seeds, and the base has no dropout of its own
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
