"""The borrowing contract with ComfyUI, one context manager per promise: each undoes exactly what it did."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import HostError
from .borrowing import overlaid, replaced

_EVERYTHING_ELSE = 1e20  # bytes asked for so that ComfyUI unloads all other models
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """precision of config.PRECISIONS → dtype; "auto" is fp32 on a CPU, else bf16, or fp16 where bf16 is slow."""
    from comfy import model_management

    if precision in _DTYPES:
        return _DTYPES[precision]
    if model_management.is_device_cpu(device):
        return torch.float32
    if model_management.should_use_bf16(device, manual_cast=True):
        return torch.bfloat16
    return torch.float16 if model_management.should_use_fp16(device, manual_cast=True) else torch.float32


def unshared(patcher: Any, device: torch.device) -> Any:
    """A patcher whose model trains on `device`: the patcher itself, a clone that loads elsewhere, or, where ComfyUI
    streams weights ("dynamic VRAM"), one whose weights are all there."""
    if getattr(patcher, "is_dynamic", bool)():
        try:
            patcher = patcher.clone(disable_dynamic=True)
        except RuntimeError as error:
            raise HostError(
                "ComfyUI streams this model's weights and cannot load it whole; start it with --disable-dynamic-vram"
            ) from error
    if patcher.load_device != device:
        patcher = patcher.clone()
        patcher.load_device = device
    return patcher


def load_whole(patchers: list[Any], device: torch.device, alone: bool) -> None:
    """Bring the models onto the device, all of them; `alone` sends others away. Raises HostError if they do not fit."""
    from comfy import model_management

    if alone and not model_management.is_device_cpu(device):
        ours = [each for each in model_management.current_loaded_models if each.model in patchers]
        model_management.free_memory(_EVERYTHING_ELSE, device, keep_loaded=ours)
    model_management.load_models_gpu(patchers, force_full_load=True)
    for patcher in patchers:
        away = next((weight for weight in patcher.model.parameters() if weight.device != device), None)
        if away is not None and away.device.type != device.type:
            raise HostError(
                f"the model does not fit on {device} as a whole, as training needs it; "
                "close other models, or start ComfyUI without --novram"
            )


@contextmanager
def cast_to_compute(trunks: Iterable[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Layers whose weights are stored in another dtype compute in their input's, by ComfyUI's own casting layers."""
    with ExitStack() as undo:
        for trunk in trunks:
            for module in trunk.modules():
                stored = {weight.dtype for weight in module.parameters(recurse=False)}
                if hasattr(module, "comfy_cast_weights") and stored - {dtype}:
                    undo.enter_context(overlaid(module, "comfy_cast_weights", True))
        yield


@contextmanager
def out_of_place_residuals(text_encoders: Iterable[nn.Module]) -> Iterator[None]:
    """CLIP's layers add their residuals in place, on tensors that autograd has kept: backward fails, or is a few
    percent wrong under checkpointing. Inside they add them out of place, to the same bits.

    Raises HostError for a text encoder whose layers are not built the way that is known here."""
    with ExitStack() as undo:
        for encoder in text_encoders:
            layers = [module for module in encoder.modules() if type(module).__name__ == "CLIPLayer"]
            if not layers or not all(_is_known_layer(layer) for layer in layers):
                raise HostError(
                    f"the layers of {type(encoder).__name__} are unknown to this version; train the UNet alone "
                    "(train_text_encoder off), or update LazyLoRA"
                )
            for layer in layers:
                undo.enter_context(overlaid(layer, "forward", partial(_clip_layer, layer)))
        yield


@contextmanager
def marked_as_training() -> Iterator[None]:
    """Newer ComfyUIs switch fused kernels without a backward off by a flag."""
    from comfy import model_management

    if not hasattr(model_management, "in_training"):
        yield
        return
    with replaced(model_management, "in_training", True):
        yield


@contextmanager
def interrupts_left_to(thread: int) -> Iterator[None]:
    """Only the thread that runs the node is interrupted by exceptions; newer ComfyUIs raise them inside every layer,
    and so would end a step midway, in the training thread or in autograd's own."""
    from comfy import model_management

    name = "throw_exception_if_processing_interrupted"
    before = getattr(model_management, name)

    def throw_in_the_node_alone() -> None:
        if threading.get_ident() == thread:
            before()

    setattr(model_management, name, throw_in_the_node_alone)
    try:
        yield
    finally:
        if getattr(model_management, name) is throw_in_the_node_alone:
            setattr(model_management, name, before)


def _is_known_layer(layer: nn.Module) -> bool:
    return {name for name, _ in layer.named_children()} == {"layer_norm1", "self_attn", "layer_norm2", "mlp"}


def _clip_layer(layer: Any, x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None) -> Tensor:
    """A pre-norm transformer layer (Radford et al. 2021, arXiv:2103.00020)."""
    x = x + layer.self_attn(layer.layer_norm1(x), mask, optimized_attention)
    return x + layer.mlp(layer.layer_norm2(x))
