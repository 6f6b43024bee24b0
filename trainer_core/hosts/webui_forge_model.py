"""What Forge has loaded: which family it is, which process it follows, and whether it can be trained at all."""

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

_FAMILIES = {"StableDiffusion": SD1, "StableDiffusion2": SD2, "StableDiffusionXL": SDXL}
_TEXT_ENCODERS = {"sd1": ("clip_l",), "sd2": ("clip_h",), "sdxl": ("clip_l", "clip_g")}
_TIMESTEPS = 1000
_TRAINABLE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FP8 = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))


def loaded_engine() -> Any:
    """The ForgeDiffusionEngine of the checkpoint that is chosen in the UI.

    Forge holds a stand-in until the first picture is asked for, and the last checkpoint until one is asked for after a
    change; this asks. Raises HostError where it cannot be loaded."""
    from modules import sd_models
    from modules_forge import main_entry

    if not sd_models.model_data.forge_loading_parameters:
        main_entry.refresh_model_loading_parameters()
    try:
        engine, _ = sd_models.forge_model_reload()
    except ValueError as error:  # no checkpoint, or none that Forge knows
        raise HostError(
            f"Forge cannot load the checkpoint that is chosen at the top of its page ({error}); choose another"
        ) from error
    if engine is None:
        raise HostError("Forge does not know this kind of checkpoint; choose another at the top of its page")
    return engine


def family_of(engine: Any) -> Family:
    """The family of a ForgeDiffusionEngine. Raises HostError for one that cannot be trained."""
    kind = type(engine).__name__
    family = _FAMILIES.get(kind)
    if family is None:
        raise HostError(f"{kind} models cannot be trained yet; load a Stable Diffusion 1.x, 2.x or XL checkpoint")
    config = engine.model_config.unet_config
    if config.get("in_channels", 4) != 4 or config.get("out_channels", 4) != 4 or _takes_more(config, family):
        raise HostError(
            f"this {family.title} model takes more than a noisy picture and a text ({config.get('in_channels')} "
            "channels), for inpainting, editing or upscaling; load the text-to-image checkpoint it was made from"
        )
    return family


def process_of(engine: Any) -> Process:
    """The diffusion process that the checkpoint was trained for.

    Forge rescales the noise table to zero terminal SNR in each generation, where the checkpoint or the UI's setting
    says so; for velocity models so do we. Raises HostError for a model that is neither epsilon- nor
    velocity-predicting with 1000 timesteps."""
    from backend.modules.k_prediction import Prediction
    from modules import shared

    predictor = engine.forge_objects_original.unet.model.predictor
    is_known = predictor.prediction_type in ("epsilon", "v_prediction") and type(predictor) is Prediction
    if not is_known or len(predictor.alphas_cumprod) != _TIMESTEPS:
        raise HostError(
            f"the model samples by another process than the usual 1000 steps of epsilon or v_prediction "
            f"({type(predictor).__name__}, {predictor.prediction_type}); load an ordinary checkpoint"
        )
    with torch.inference_mode(False), torch.no_grad():
        process = Process(predictor.prediction_type, predictor.alphas_cumprod.detach().to("cpu", copy=True))
    rescales = getattr(engine.model_config, "ztsnr", False) or shared.opts.sd_noise_schedule == "Zero Terminal SNR"
    return zero_terminal_snr(process) if rescales and process.prediction == "v_prediction" else process


def text_engines(engine: Any, family: Family) -> dict[str, Any]:
    """component → Forge's ClassicTextProcessingEngine, which knows encoder and tokenizer: "te1", and on SDXL "te2"."""
    if family is SDXL:
        return {"te1": engine.text_processing_engine_l, "te2": engine.text_processing_engine_g}
    return {"te1": engine.text_processing_engine}


def file_name(engine: Any) -> str:
    """The name of the checkpoint's file."""
    return os.path.basename(getattr(engine, "filename", ""))


def require_plain_weights(trunks: Mapping[str, nn.Module]) -> None:
    """Raises HostError when weights are quantised otherwise than in fp8 (NF4, GGUF …): Forge unpacks those in every
    layer by code that has no backward."""
    for component, trunk in trunks.items():
        for path, module in trunk.named_modules():
            if getattr(module, "scale_weight", None) is not None:
                raise HostError(f"{component} has scaled fp8 weights ({path}); load an fp16 or bf16 file")
        for name, weight in trunk.named_parameters():
            kind = _quantisation(weight)
            if kind:
                raise HostError(
                    f"{component} has quantised weights ({name}: {kind}); set Diffusion in Low Bits to Automatic "
                    "and load an fp16 or bf16 file"
                )


class BaseWeights(nn.Module):
    """A module's weights without the LoRAs that Forge has merged into them at the moment, to be fingerprinted."""

    def __init__(self, patcher: Any, prefix: str):
        """patcher: backend.patcher.base.ModelPatcher. prefix: of the keys that count."""
        super().__init__()
        self._patcher, self._prefix = [patcher], prefix  # in a list: a patcher's model must not become our submodule

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """key → weight as it was loaded."""
        patcher = self._patcher[0]
        weights = {**patcher.model.state_dict(), **patcher.lora_loader.backup}
        return {key: each for key, each in weights.items() if key.startswith(self._prefix)}


def _takes_more(config: Mapping[str, Any], family: Family) -> bool:
    """Whether it is an unCLIP model, which takes a picture's embedding."""
    return config.get("adm_in_channels") is not None and family is not SDXL


def _quantisation(weight: Tensor) -> str:
    """How a weight is packed, "" for plain ones."""
    if getattr(weight, "gguf_cls", None) is not None:
        return "gguf"
    if type(weight) is nn.Parameter and weight.dtype in (*_TRAINABLE_DTYPES, *FP8):
        return ""
    return str(getattr(weight, "quant_type", None) or weight.dtype).removeprefix("torch.")
