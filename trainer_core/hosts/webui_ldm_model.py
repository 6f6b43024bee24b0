"""What A1111 has loaded: which family it is, which process it follows, and whether it can be trained at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.process import Process, zero_terminal_snr
from ..errors import HostError
from ..families.base import Family
from ..families.sd1 import SD1
from ..families.sd2 import SD2
from ..families.sdxl import SDXL

_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}
# with fp8 storage A1111 casts in every layer; such weights are cast once for the run
_TRAINABLE = ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def loaded_model() -> Any:
    """`shared.sd_model`, which A1111 loads when it is asked for. Raises HostError where there is none."""
    from modules import shared

    if shared.sd_model is None:
        raise HostError("A1111 has no checkpoint loaded; choose one at the top of its page")
    return shared.sd_model


def family_of(model: Any) -> Family:
    """The family of an LDM `LatentDiffusion` or an sgm `DiffusionEngine`. Raises HostError for one that cannot be
    trained."""
    flags = (("is_sdxl", SDXL), ("is_sd2", SD2), ("is_sd1", SD1))
    family = next((family for flag, family in flags if getattr(model, flag, False)), None)
    if family is None or getattr(model, "is_sd3", False):
        raise HostError(
            f"{type(model).__name__} models cannot be trained yet; load a Stable Diffusion 1.x, 2.x or XL checkpoint"
        )
    _require_text_to_image(model, family)
    _require_known_text_encoders(model, family)
    return family


def process_of(model: Any) -> Process:
    """The diffusion process that the model was trained for.

    The noise table is the checkpoint's: A1111 may sample with one that it has rounded to half precision. It is rescaled
    to zero terminal SNR for velocity models where the checkpoint or the UI's setting says so. Raises HostError for a
    model that predicts neither noise nor velocity."""
    from modules import shared

    prediction = _PREDICTIONS.get(model.parameterization)
    if prediction is None:
        raise HostError(
            f"the model predicts {model.parameterization}; only epsilon and v_prediction models can be trained"
        )
    alphas = getattr(model, "alphas_cumprod_original", model.alphas_cumprod)
    process = Process(prediction, alphas.detach().to("cpu", torch.float32, copy=True))
    rescales = getattr(model, "ztsnr", False) or getattr(shared.opts, "sd_noise_schedule", "") == "Zero Terminal SNR"
    return zero_terminal_snr(process) if rescales and prediction == "v_prediction" else process


def text_encoders(model: Any, family: Family) -> dict[str, Any]:
    """component → A1111's wrapper around a text encoder, which knows its tokenizer: "te1", and on SDXL "te2"."""
    if family is not SDXL:
        return {"te1": model.cond_stage_model}
    wrappers = [each for each in model.conditioner.embedders if hasattr(each, "wrapped")]
    return {f"te{number}": wrapper for number, wrapper in enumerate(wrappers, 1)}


def is_open_clip(wrapper: Any) -> bool:
    """Whether it wraps an OpenCLIP text encoder (SD 2.x, SDXL's second) and not transformers' CLIP."""
    return hasattr(getattr(wrapper.wrapped, "model", None), "transformer")


def encoder_in(wrapper: Any) -> nn.Module:
    """The module that holds a text encoder's weights."""
    return wrapper.wrapped.model if is_open_clip(wrapper) else wrapper.wrapped.transformer


def file_name(model: Any) -> str:
    """The name of the checkpoint's file, else ""."""
    return os.path.basename(getattr(getattr(model, "sd_checkpoint_info", None), "filename", "") or "")


def require_trainable(trunks: Mapping[str, nn.Module]) -> None:
    """Raises HostError for a start with --lowvram, and for weights that are quantised otherwise than in fp8."""
    from modules import shared

    if shared.cmd_opts.lowvram:
        raise HostError(
            "--lowvram keeps only a part of the model on the device, and training needs it whole; "
            "start A1111 with --medvram instead"
        )
    for component, trunk in trunks.items():
        for name, weight in trunk.named_parameters():
            dtype = str(weight.dtype).removeprefix("torch.")
            if weight.is_meta:
                raise HostError(f"{component}'s weights are not in memory; generate a picture, then start again")
            if type(weight) is not nn.Parameter or dtype not in _TRAINABLE:
                raise HostError(
                    f"{component} has quantised weights ({name}: {dtype}); load an fp16, bf16 or fp32 checkpoint"
                )


class BaseWeights(nn.Module):
    """A module's weights without the LoRAs that A1111 has merged into them at the moment, to be fingerprinted."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self._module = [module]  # in a list, so that it does not become a submodule

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """key → weight as it was loaded."""
        module = self._module[0]
        weights: dict[str, Tensor] = module.state_dict()
        for path, layer in module.named_modules():
            weights.update({f"{path}.{name}": kept for name, kept in _set_aside(layer).items()})
        return weights


def _set_aside(layer: nn.Module) -> dict[str, Tensor]:
    """The layer's own parameters, as the Lora extension keeps them while something is merged into it."""
    if not getattr(layer, "network_current_names", ()):
        return {}
    weight, bias = getattr(layer, "network_weights_backup", None), getattr(layer, "network_bias_backup", None)
    if isinstance(layer, nn.MultiheadAttention):
        fused, out = (None, None) if weight is None else weight
        kept = {"in_proj_weight": fused, "out_proj.weight": out, "out_proj.bias": bias}
    else:
        kept = {"weight": weight, "bias": bias}
    return {name: each for name, each in kept.items() if each is not None}


def _require_text_to_image(model: Any, family: Family) -> None:
    channels = model.model.diffusion_model.input_blocks[0][0].weight.shape[1]
    if channels != 4 or model.model.conditioning_key != "crossattn":
        raise HostError(
            f"this {family.title} model takes more than a noisy picture and a text ({channels} channels, "
            f"{model.model.conditioning_key}), for inpainting, editing or upscaling; "
            "load the text-to-image checkpoint it was made from"
        )


def _require_known_text_encoders(model: Any, family: Family) -> None:
    kinds = {SD1.name: [False], SD2.name: [True], SDXL.name: [False, True]}[family.name]
    wrappers = [each for each in text_encoders(model, family).values() if hasattr(each, "wrapped")]
    known = [each for each in wrappers if is_open_clip(each) or hasattr(each.wrapped, "transformer")]
    if [is_open_clip(each) for each in known] != kinds:
        raise HostError(
            f"this {family.title} model has other text encoders than usual (a refiner, or another language's); "
            "load an ordinary checkpoint"
        )
