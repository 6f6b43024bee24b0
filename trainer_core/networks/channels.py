"""Output channels of a layer, for adapters that change its output instead of adding to it."""

from __future__ import annotations

from torch import Tensor, nn

from .targets import Adaptable


def channel_axis(module: Adaptable) -> int:
    """Where the channels of the layer's inputs and outputs are: 1 for convolutions, -1 for all others."""
    return 1 if isinstance(module, nn.Conv2d) else -1


def without_bias(module: Adaptable, y: Tensor) -> Tensor:
    """The layer's output less its bias: what a change of the weight acts on, as files hold weights only."""
    bias = module.bias
    return y if bias is None else y - along_channels(module, bias.to(y.dtype))


def along_channels(module: Adaptable, values: Tensor) -> Tensor:
    """values [channels], shaped to multiply or add to the layer's inputs or outputs."""
    return values.view(-1, 1, 1) if isinstance(module, nn.Conv2d) else values
