"""What borrowing somebody else's modules takes in every host; each context manager undoes exactly what it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

_BLOCKS = ("ResBlock", "BasicTransformerBlock", "CLIPLayer", "CLIPEncoderLayer", "OpenClipLayer")


def thaw(parts: Iterable[nn.Module]) -> None:
    """Replace weights that were made in inference mode, which autograd refuses, by equal ones that were not.

    One at a time, so that no second model is ever in memory; where nothing is to replace it costs a glance. What
    modules share they share afterwards. The new weights stay: to the host they are the same."""
    new: dict[int, nn.Parameter] = {}
    for part in parts:
        for module in part.modules():
            for name, weight in module._parameters.items():
                if weight is not None and weight.is_inference():
                    if id(weight) not in new:
                        new[id(weight)] = nn.Parameter(weight.detach().clone(), weight.requires_grad)
                    module._parameters[name] = new[id(weight)]
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_inference():
                    module._buffers[name] = buffer.clone()


@contextmanager
def frozen(trunks: Iterable[nn.Module]) -> Iterator[None]:
    """No weight of the base model asks for a gradient inside."""
    with ExitStack() as undo:
        for trunk in trunks:
            for weight in trunk.parameters():
                if weight.requires_grad:
                    undo.callback(weight.requires_grad_, True)
                    weight.requires_grad_(False)
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute has another value inside."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def overlaid(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Inside, the instance has this attribute over its class's; afterwards what it had of its own, if anything."""
    own = module.__dict__.get(name)
    module.__dict__[name] = value
    try:
        yield
    finally:
        if own is None:
            module.__dict__.pop(name, None)
        else:
            module.__dict__[name] = own


def checkpointable_blocks(trunks: Mapping[str, nn.Module]) -> list[nn.Module]:
    """The blocks that are worth recomputing in backward, by their names in every UI: resnets, transformer blocks, text
    layers."""
    return [block for trunk in trunks.values() for block in trunk.modules() if type(block).__name__ in _BLOCKS]
