"""(IA)³ files in ComfyUI: its LoRA loaders read a list of formats, to which the pack adds this one while it is loaded.

Nothing of ComfyUI's is replaced; without the pack, ComfyUI says of each key of such a file that it is not loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor

_NAME = "ia3"
_SCALE, _ON_INPUT = "weight", "on_input"  # LyCORIS' names in files


def register_ia3() -> None:
    """Let every LoRA loader of ComfyUI read (IA)³; adds nothing twice, nor where ComfyUI reads it by itself."""
    from comfy import weight_adapter

    if all(each.name != _NAME for each in weight_adapter.adapters):
        weight_adapter.adapters.append(_ia3_adapter())


def unregister_ia3() -> None:
    """Take our reader back off ComfyUI's list."""
    from comfy import weight_adapter

    if _ia3_adapter() in weight_adapter.adapters:
        weight_adapter.adapters.remove(_ia3_adapter())


@cache
def _ia3_adapter() -> Any:
    from comfy import model_management
    from comfy.weight_adapter.base import WeightAdapterBase

    class IA3Adapter(WeightAdapterBase):
        """W becomes diag(1 + strength · s) · W, or W · diag(1 + strength · s) where `on_input` says so."""

        name = _NAME
        is_conv = False  # set by the loader where it calls `bypass_forward`

        def __init__(self, loaded_keys: set[str], weights: tuple[Tensor, bool]):
            self.loaded_keys, self.weights = loaded_keys, weights

        @classmethod
        def load(
            cls,
            x: str,
            lora: Mapping[str, Tensor],
            alpha: float | None,
            dora_scale: Tensor | None,
            loaded_keys: set[str] | None = None,
        ) -> IA3Adapter | None:
            """The adapter of the layer with key x; None where the file has another format there."""
            keys = {f"{x}.{_SCALE}", f"{x}.{_ON_INPUT}"}
            if not keys <= lora.keys():
                return None
            return cls(keys, (lora[f"{x}.{_SCALE}"].flatten(), bool(lora[f"{x}.{_ON_INPUT}"])))

        def calculate_weight(
            self,
            weight: Tensor,
            key: str,
            strength: float,
            strength_model: float,
            offset: Any,
            function: Callable[[Tensor], Tensor],
            intermediate_dtype: Any = None,
            original_weight: Any = None,
        ) -> Tensor:
            """weight, changed in place as ComfyUI's own adapters do; as it was, with a line in the log, if s does not
            fit it."""
            scale, on_input = self.weights
            axis = 1 if on_input else 0
            if scale.numel() != weight.shape[axis]:
                logging.warning(f"(IA)³ {key}: {scale.numel()} scales do not fit a weight of {tuple(weight.shape)}")
                return weight
            scale = model_management.cast_to_device(scale, weight.device, weight.dtype)
            shaped = scale.view([-1 if each == axis else 1 for each in range(weight.ndim)])
            weight += function(strength * shaped * weight)
            return weight

        def bypass_forward(self, org_forward: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            """The same on activations, for the loaders that leave weights alone (ComfyUI after 0.3.64)."""
            scale, on_input = self.weights
            scale = _along_channels(self.multiplier * scale.to(x), self.is_conv)
            if on_input:
                return org_forward(x + scale * x, *args, **kwargs)
            y, bias = org_forward(x, *args, **kwargs), _bias_behind(org_forward)
            return y + scale * (y if bias is None else y - _along_channels(bias.to(y), self.is_conv))

    return IA3Adapter


def _along_channels(values: Tensor, is_conv: bool) -> Tensor:
    return values.view(-1, 1, 1) if is_conv else values


def _bias_behind(forward: Any) -> Tensor | None:
    """The bias of the layer whose forward this is, or of the layer that another bypass loader holds."""
    owner = forward.__self__
    return getattr(owner, "module", owner).bias
