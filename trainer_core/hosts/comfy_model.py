"""What ComfyUI has loaded: which family it is, which process it follows, and whether it can be trained at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.process import Process
from ..errors import HostError
from ..families.base import Family
from ..families.sd1 import SD1
from ..families.sd2 import SD2
from ..families.sdxl import SDXL

_TRAINABLE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_TIMESTEPS = 1000
# usually in no SD 1 or SDXL checkpoint and used by neither: ComfyUI leaves it at what was in memory, new at each load
_NEVER_LOADED = "clip_l.transformer.text_projection.weight"
_TEXT_ENCODERS = {"sd1": ("clip_l",), "sd2": ("clip_h",), "sdxl": ("clip_l", "clip_g")}


def family_of(model: Any) -> Family:
    """The family of a comfy.model_base.BaseModel. Raises HostError for one that cannot be trained."""
    from comfy import model_base, supported_models

    config = model.model_config
    kind = type(config).__name__
    channels = config.unet_config.get("in_channels", 4), config.unet_config.get("out_channels", 4)
    known = ((supported_models.SD15, SD1), (supported_models.SD20, SD2), (supported_models.SDXL, SDXL))
    family = next((family for host_class, family in known if isinstance(config, host_class)), None)
    if family is None:
        raise HostError(f"{kind} models cannot be trained yet; load a Stable Diffusion 1.x, 2.x or XL checkpoint")
    if channels != (4, 4):
        raise HostError(
            f"this {kind} model takes {channels[0]} channels and gives {channels[1]}, for inpainting, editing or "
            "upscaling; load the text-to-image checkpoint it was made from"
        )
    if type(model) is not (model_base.SDXL if family is SDXL else model_base.BaseModel):
        raise HostError(f"{type(model).__name__} is a special kind of {family.title}; load an ordinary checkpoint")
    return family


def process_of(patcher: Any) -> Process:
    """The diffusion process that a ModelPatcher samples with, a ModelSampling patch on it included.

    Raises HostError for one that is neither epsilon- nor velocity-predicting with 1000 timesteps."""
    from comfy import model_sampling

    sampling = patcher.get_model_object("model_sampling")
    # sampling nodes make subclasses of these that predict something else, so the very method tells
    predictions = {
        model_sampling.EPS.calculate_denoised: "epsilon",
        model_sampling.V_PREDICTION.calculate_denoised: "v_prediction",
    }
    prediction = predictions.get(getattr(type(sampling), "calculate_denoised", None))
    discrete = model_sampling.ModelSamplingDiscrete
    is_discrete = isinstance(sampling, discrete) and type(sampling).timestep is discrete.timestep
    if prediction is None or not is_discrete or len(sampling.sigmas) != _TIMESTEPS:
        raise HostError(
            "the model samples by another process than the usual 1000 steps of epsilon or v_prediction "
            "(EDM, LCM, x0 …); connect the model as the checkpoint loader gives it"
        )
    with torch.inference_mode(False), torch.no_grad():
        variances = sampling.sigmas.detach().to("cpu", torch.float64, copy=True) ** 2
        return Process(prediction, (1 / (variances + 1)).float())


def file_name(patcher: Any) -> str:
    """The name of the file that a ModelPatcher was loaded from, where ComfyUI remembers it, else ""."""
    reload = getattr(patcher, "cached_patcher_init", None)
    path = reload[1][0] if reload and reload[1] else None
    return os.path.basename(path) if isinstance(path, (str, os.PathLike)) else ""


def text_encoders(cond_stage_model: nn.Module, family: Family) -> dict[str, Any]:
    """component → comfy.sd1_clip.SDClipModel: "te1", and on SDXL "te2". Raises HostError for another family's."""
    names = _TEXT_ENCODERS[family.name]
    if any(hasattr(cond_stage_model, name) != (name in names) for name in ("clip_l", "clip_h", "clip_g")):
        raise HostError(
            f"the CLIP is a {type(cond_stage_model).__name__}, which does not belong to a {family.title} model; "
            "connect the CLIP of the same checkpoint"
        )
    return {f"te{number}": getattr(cond_stage_model, name) for number, name in enumerate(names, 1)}


def require_unpatched(patchers: Iterable[Any]) -> None:
    """Raises HostError when a LoRA is on the model: it would be trained upon, and missing where the result is used."""
    for patcher in patchers:
        if patcher.patches or patcher.weight_wrapper_patches or patcher.hook_patches:
            raise HostError(
                "the model or CLIP carries a LoRA already, and training would build upon it; "
                "connect the checkpoint loader directly, or merge the LoRA into a checkpoint first"
            )


def require_plain_weights(trunks: Mapping[str, nn.Module]) -> None:
    """Raises HostError when weights are quantised (fp8, GGUF, NF4 …): gradients cannot pass through those exactly."""
    for component, trunk in trunks.items():
        for name, weight in trunk.named_parameters():
            if weight.is_meta:
                raise HostError(f"{component}'s weights are not in memory; queue again, or restart without --novram")
            if type(weight) is not nn.Parameter or weight.dtype not in _TRAINABLE_DTYPES:
                dtype = str(weight.dtype).removeprefix("torch.")
                raise HostError(
                    f"{component} has quantised weights ({name}: {dtype}); "
                    "load the checkpoint with weight_dtype default, or an fp16 or bf16 file"
                )


class BaseWeights(nn.Module):
    """A patcher's weights without the patches that are worked into them at the moment, to be fingerprinted."""

    def __init__(self, patcher: Any, prefix: str = ""):
        """prefix: of the keys that count."""
        super().__init__()
        self._patcher, self._prefix = [patcher], prefix  # in a list: a patcher's model must not become our submodule

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """key → weight as it was loaded."""
        patcher = self._patcher[0]
        weights = patcher.model.state_dict()
        weights.update({key: kept[0] for key, kept in patcher.hook_backup.items() if key in weights})
        weights.update({key: kept.weight for key, kept in patcher.backup.items() if key in weights})
        return {
            key: each
            for key, each in weights.items()
            if key.startswith(self._prefix) and not key.endswith(_NEVER_LOADED)
        }
