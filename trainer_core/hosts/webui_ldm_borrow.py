"""The borrowing contract with A1111, one context manager per promise: each undoes exactly what it did."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .borrowing import overlaid, replaced

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MERGED_INTO = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.MultiheadAttention)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """precision of config.PRECISIONS → dtype; "auto" is bf16 on CUDA, or fp16 where there is none, else fp32."""
    if precision in _DTYPES:
        return _DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def undo_merged_loras(model: nn.Module) -> None:
    """Take out the LoRAs of the last generation, which A1111 merges into the weights and leaves there.

    The next generation merges those of its own prompt, as always."""
    # never imported by name: other extensions have modules of that name, too
    networks = sys.modules.get("networks")
    if networks is None or not hasattr(networks, "network_apply_weights"):
        return
    networks.loaded_networks.clear()
    with torch.no_grad():
        # also where nothing is merged: it copies biases before their first use, and it must not copy ours
        for module in model.modules():
            if isinstance(module, _MERGED_INTO):
                networks.network_apply_weights(module)


@contextmanager
def lent(module: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> Iterator[None]:
    """The module frozen, in eval mode and on the device; then with its own tensors and flags again, bit for bit.

    dtype: of the matrices; vectors (norms, biases) are fp32 then, which autocast wants. None leaves dtypes as they are.
    What has to be converted or moved is set aside in main memory."""
    tensors = [*module.parameters(), *module.buffers()]
    flags = [(each, each.requires_grad) for each in tensors]
    modes = [(each, each.training) for each in module.modules()]
    before: list[tuple[Tensor, Tensor, torch.device]] = []
    try:
        for tensor in tensors:
            data = tensor.data
            moved = data.to(device, _dtype_of(tensor, dtype))
            if moved is not data:
                is_copy = moved.device.type == "cpu" and moved.dtype == data.dtype
                before.append((tensor, moved if is_copy else data.cpu(), data.device))
                tensor.data = moved
            tensor.requires_grad_(False)
        module.eval()
        yield
    finally:
        for tensor, own, home in before:
            tensor.data = own.to(home)
        for tensor, requires_grad in flags:
            tensor.requires_grad_(requires_grad)
        for each, training in modes:
            each.training = training


@contextmanager
def shuttles_stopped(model: Any) -> Iterator[None]:
    """With --medvram each part of the model sends the others away when it is called; inside, nothing does so.

    A part that left in the middle of a step would be missing in its backward."""
    if not getattr(model, "lowvram", False):
        yield
        return
    from modules import lowvram

    lowvram.send_everything_to_cpu()
    vae = model.first_stage_model
    with ExitStack() as undo:
        for module in model.modules():
            hooks = module._forward_pre_hooks
            if any(_is_shuttle(hook) for hook in hooks.values()):
                undo.callback(_refill, hooks, dict(hooks))
                _refill(hooks, {key: hook for key, hook in hooks.items() if not _is_shuttle(hook)})
        for name in ("encode", "decode"):
            if _is_shuttle(vae.__dict__.get(name)):
                undo.callback(setattr, vae, name, vae.__dict__.pop(name))
        yield


@contextmanager
def as_the_checkpoint_is(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """What A1111 lays over a model is off inside: another UNet in its place (TensorRT), words replaced by embeddings,
    tiling, and casts to the dtype that it loaded the weights in.

    dtype: the one that training computes in."""
    from modules import devices, sd_hijack, sd_unet

    hijack, unet = sd_hijack.model_hijack, model.model.diffusion_model
    with ExitStack() as undo:
        undo.enter_context(replaced(sd_unet, "current_unet", None))
        undo.enter_context(replaced(hijack, "fixes", None))
        undo.enter_context(replaced(devices, "unet_needs_upcast", False))
        if hasattr(unet, "dtype"):
            undo.enter_context(replaced(unet, "dtype", dtype))
        undo.callback(hijack.apply_circular, hijack.circular_enabled)
        hijack.apply_circular(False)
        yield


@contextmanager
def plain_attention(unet: nn.Module) -> Iterator[None]:
    """Inside, the UNet's attention is torch's own, whichever A1111 is set to: some have no backward, some a slow one,
    and all apply the last generation's hypernetworks. Instances are patched, classes never."""
    with ExitStack() as undo:
        for module in unet.modules():
            if all(hasattr(module, name) for name in ("to_q", "to_k", "to_v", "to_out", "heads")):
                undo.enter_context(overlaid(module, "forward", partial(_attention, module)))
        yield


@contextmanager
def own_checkpointing_off(unet: nn.Module) -> Iterator[None]:
    """LDM's and sgm's gradient checkpointing, which some configs switch on, gives gradients to what is passed in and to
    the block's own weights, and so none to adapters. Ours (`hosts.checkpointing`) takes its place."""
    with ExitStack() as undo:
        for module in unet.modules():
            for name in ("checkpoint", "use_checkpoint"):
                if module.__dict__.get(name) is True:
                    undo.enter_context(replaced(module, name, False))
        yield


def weights_of(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Every parameter of these modules."""
    return [weight for module in modules for weight in module.parameters()]


def _dtype_of(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    if dtype is None or not tensor.is_floating_point():
        return tensor.dtype
    return dtype if tensor.ndim > 1 else torch.float32


def _is_shuttle(function: Any) -> bool:
    return getattr(function, "__module__", "") == "modules.lowvram"


def _refill(hooks: dict, content: Mapping) -> None:
    # in place: the handles of hooks know their dictionary
    hooks.clear()
    hooks.update(content)


def _attention(module: Any, x: Tensor, context: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762), [B, N, D] → the same; a UNet uses no masks."""
    context = x if context is None else context
    projected = module.to_q(x), module.to_k(context), module.to_v(context)
    q, k, v = (each.unflatten(-1, (module.heads, -1)).transpose(1, 2) for each in projected)
    return module.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
