"""The borrowing contract with Forge, one context manager per promise: each undoes exactly what it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import HostError
from .borrowing import overlaid, replaced
from .webui_forge_model import FP8

_EVERYTHING_ELSE = 1e30  # bytes asked for so that Forge unloads all other models
_BLOCK_PARTS = {"attn1", "norm1", "attn2", "norm2", "ff", "norm3"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """precision of config.PRECISIONS → dtype; "auto" is fp32 on a CPU, else bf16, or fp16 where bf16 is slow."""
    from backend import memory_management

    if precision in _DTYPES:
        return _DTYPES[precision]
    if memory_management.is_device_cpu(device):
        return torch.float32
    if memory_management.should_use_bf16(device, manual_cast=True):
        return torch.bfloat16
    return torch.float16 if memory_management.should_use_fp16(device, manual_cast=True) else torch.float32


def undo_merged_loras(engine: Any) -> None:
    """Take out the LoRAs of the last generation, which Forge leaves in the weights; the next merges its own again."""
    engine.forge_objects = engine.forge_objects_original.shallow_copy()
    engine.forge_objects_after_applying_lora = engine.forge_objects_original.shallow_copy()
    engine.current_lora_hash = str([])
    engine.forge_objects.unet.refresh_loras()
    engine.forge_objects.clip.patcher.refresh_loras()


def load_whole(patchers: list[Any]) -> None:
    """Bring the models onto their devices, all of them, and send others away.

    Forge may have left a part of a model in main memory, or want to. Raises HostError if they do not fit."""
    from backend import memory_management as memory

    device = patchers[0].load_device
    with torch.inference_mode(), _never_in_parts():  # as Forge itself moves weights that it made in inference mode
        if not memory.is_device_cpu(device):
            ours = [each for each in memory.current_loaded_models if each.model in patchers and _is_whole(each.model)]
            memory.free_memory(_EVERYTHING_ELSE, device, keep_loaded=ours)
        try:
            memory.load_models_gpu(patchers)
        except memory.OOM_EXCEPTION as error:
            raise _does_not_fit(device) from error
    if not all(_is_whole(patcher) for patcher in patchers):
        raise _does_not_fit(device)


def send_away(device: torch.device) -> None:
    """Forge loads its models again as it likes, when it needs them; on a CPU there is nothing to send away."""
    from backend import memory_management as memory

    if not memory.is_device_cpu(device):
        with torch.inference_mode():
            memory.free_memory(_EVERYTHING_ELSE, device)
            memory.soft_empty_cache()


def embeddings_in_fp32(text_encoders: Iterable[nn.Module]) -> None:
    """Text encoders read words in fp32, and so compute in it: Forge does this before each prompt, for good."""
    with torch.inference_mode():
        for encoder in text_encoders:
            embeddings: nn.Module = encoder.text_model.embeddings  # type: ignore[assignment]
            if any(weight.dtype != torch.float32 for weight in embeddings.parameters()):
                embeddings.to(torch.float32)


@contextmanager
def fp8_unpacked(trunks: Iterable[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """fp8 weights, which Forge casts in every layer, are cast once; then the stored ones are there again."""
    with ExitStack() as undo:
        for trunk in trunks:
            for module in trunk.modules():
                for name, weight in module._parameters.items():
                    if weight is not None and weight.dtype in FP8:
                        undo.callback(module._parameters.__setitem__, name, weight)
                        module._parameters[name] = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
        yield


@contextmanager
def cast_to_compute(trunks: Iterable[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Layers whose weights are stored in another dtype compute in their input's, by Forge's own casting layers."""
    with ExitStack() as undo:
        for trunk in trunks:
            for module in trunk.modules():
                stored = {weight.dtype for weight in module.parameters(recurse=False)}
                if hasattr(module, "parameters_manual_cast") and stored - {dtype}:
                    undo.enter_context(replaced(module, "parameters_manual_cast", True))
        yield


@contextmanager
def text_in(text_encoders: Iterable[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Text encoders compute in this dtype: theirs is that of the embeddings, which Forge keeps in fp32."""
    with ExitStack() as undo:
        for encoder in text_encoders:
            embeddings: nn.Module = encoder.text_model.embeddings  # type: ignore[assignment]
            hook = embeddings.register_forward_hook(lambda _module, _inputs, output: output.to(dtype))
            undo.callback(hook.remove)
        yield


@contextmanager
def differentiable_unet(unet: nn.Module) -> Iterator[None]:
    """Where gradients are recorded, attention is torch's own, whichever Forge runs with, and transformer blocks add
    their residuals out of place: Forge's add them to what the LayerNorms have kept for backward. To the same bits.

    Without gradients everything is Forge's. Raises HostError for blocks that are not built the way that is known."""
    from backend.nn import unet as forge_unet

    with ExitStack() as undo:
        own = forge_unet.attention_function
        undo.enter_context(replaced(forge_unet, "attention_function", partial(_attention, own)))
        for block in unet.modules():
            if type(block).__name__ == "BasicTransformerBlock":
                _require_known(block)
                undo.enter_context(overlaid(block, "forward", partial(_transformer_block, block, block.forward)))
        yield


@contextmanager
def one_stream() -> Iterator[None]:
    """Forge's "Async" swap method casts weights on a stream of its own, which autograd's backward does not wait for."""
    from backend import stream

    with replaced(stream, "stream_activated", False):
        yield


@contextmanager
def _never_in_parts() -> Iterator[None]:
    """Forge estimates generously what a generation takes, and leaves in main memory what is beyond that."""
    from backend import memory_management as memory

    on_a_gpu = memory.vram_state not in (memory.VRAMState.DISABLED, memory.VRAMState.SHARED)
    with replaced(memory, "vram_state", memory.VRAMState.HIGH_VRAM if on_a_gpu else memory.vram_state):
        yield


def _is_whole(patcher: Any) -> bool:
    return all(weight.device.type == patcher.load_device.type for weight in patcher.model.parameters())


def _does_not_fit(device: torch.device) -> HostError:
    return HostError(
        f"the model does not fit on {device} as a whole, as training needs it; close what else uses its memory"
    )


def _attention(own: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
    from backend.attention import attention_pytorch

    return (attention_pytorch if torch.is_grad_enabled() else own)(q, k, v, heads, *args, **kwargs)


def _transformer_block(block: Any, own: Any, x: Tensor, context: Any = None, transformer_options: Any = None) -> Tensor:
    if not torch.is_grad_enabled():
        return own(x, context=context, transformer_options=transformer_options)
    x = x + block.attn1(block.norm1(x))
    x = x + block.attn2(block.norm2(x), context=context)
    return x + block.ff(block.norm3(x))


def _require_known(block: Any) -> None:
    if {name for name, _ in block.named_children()} != _BLOCK_PARTS or block.disable_self_attn or not block.is_res:
        raise HostError(
            "the UNet's transformer blocks are built in a way that is unknown to this version; load an ordinary "
            "Stable Diffusion checkpoint, or update LazyLoRA"
        )
