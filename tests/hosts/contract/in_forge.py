"""Forge as a place for the checks: the checkpoint that is chosen in its UI."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .loaded import SIDE, TEXT_LAYERS, state_of_modules

_numbers = itertools.count()


@dataclass
class ForgeLoaded:
    """A ForgeDiffusionEngine, and the host that borrows it."""

    engine: Any
    visible: float = 0.06

    @property
    def host(self) -> Any:
        from trainer_core.hosts.webui_forge import ForgeHost

        return ForgeHost(self.engine)

    @property
    def unet(self) -> Any:
        """The KModel around the UNet."""
        return self.engine.forge_objects_original.unet.model

    @property
    def text_engines(self) -> dict[str, Any]:
        """component → what encodes prompts."""
        if self.engine.is_sdxl:
            return {"te1": self.engine.text_processing_engine_l, "te2": self.engine.text_processing_engine_g}
        return {"te1": self.engine.text_processing_engine}

    def picture(self, seed: int = 5, prompt: str = "a cat on a wall") -> Any:
        """By process_images, as a click on Generate runs it."""
        import numpy as np
        import torch
        from modules import processing

        p = processing.StableDiffusionProcessingTxt2Img(
            **{"sd_model": self.engine, "prompt": prompt, "negative_prompt": "", "seed": seed, "steps": 2},
            **{"width": SIDE, "height": SIDE, "cfg_scale": 3.0, "sampler_name": "Euler"},
            **{"do_not_save_samples": True, "do_not_save_grid": True},
        )
        p.clear_prompt_cache()  # it does not know of hooks
        picture = processing.process_images(p).images[0]
        p.clear_prompt_cache()
        return torch.from_numpy(np.asarray(picture.convert("RGB")) / np.float32(255))

    def picture_with(self, tensors: dict[str, Any]) -> Any:
        """By `<lora:…>` in the prompt."""
        return self.picture(prompt=f"a cat on a wall <lora:{write_lora(tensors)}:1>")

    def state(self) -> dict[str, Any]:
        from backend import memory_management, stream
        from backend.nn import unet

        objects = self.engine.forge_objects_original
        state = state_of_modules(
            {"unet": self.unet, "clip": objects.clip.cond_stage_model, "vae": objects.vae.first_stage_model},
            ("forward", "parameters_manual_cast"),
        )
        patchers = {"unet": objects.unet, "clip": objects.clip.patcher}
        for name, patcher in patchers.items():
            state[f"{name} patcher"] = (len(patcher.lora_patches), patcher.lora_loader.loaded_hash)
            state[f"{name} options"] = str(patcher.model_options)
        state["attention"] = unet.attention_function
        state["globals"] = (memory_management.vram_state, stream.stream_activated)
        state["clip skip"] = [each.clip_skip for each in self.text_engines.values()]
        return state

    def encoded_images(self, pixels: Any) -> Any:
        import torch

        vae = self.engine.forge_objects_original.vae
        vae.patcher.set_model_vae_regulation(lambda posterior: posterior.mode())
        try:
            with torch.inference_mode():
                return self.engine.encode_first_stage(pixels).clone()
        finally:
            del vae.patcher.model_options["model_vae_regulation"]

    def denoised(self, x: Any, sigma: Any, cond: Any) -> Any:
        extra = {} if cond.sizes is None else {"y": self._vector(cond.pooled, cond.sizes.tolist())}
        return self.unet.apply_model(x, sigma, c_crossattn=cond.tokens, **extra)

    def sigmas(self, t: Any) -> Any:
        return self.unet.predictor.sigma(t)

    def predicted_plainly(self, call: Callable[..., Any], captions: list[str], x_t: Any, t: Any) -> Any:
        import torch

        encoded = []
        for component, engine in self.text_engines.items():
            own = engine.text_encoder
            engine.text_encoder = SimpleNamespace(transformer=_Called(own.transformer, component, call))
            try:
                encoded.append(engine(captions))
            finally:
                engine.text_encoder = own
        if len(encoded) == 1:
            return call("unet", x_t, t.float(), context=encoded[0], transformer_options={})
        context = torch.cat([encoded[0], encoded[1][0]], dim=2)
        y = self._vector(encoded[1][1], [[128, 128, 0, 0, 128, 128]] * len(captions))
        return call("unet", x_t, t.float(), context=context, y=y, transformer_options={})

    def interrupt(self, pressed: bool) -> None:
        from modules import shared

        shared.state.interrupted = pressed

    def _vector(self, pooled: Any, sizes: list[list[int]]) -> Any:
        import torch

        rows = [torch.cat([self.engine.embedder(torch.Tensor([each])) for each in row]).flatten() for row in sizes]
        return torch.cat([pooled, torch.stack(rows)], dim=1)


class _Called:
    """A text encoder that is called by somebody else's function; its parts are its own."""

    def __init__(self, own: Any, component: str, call: Callable[..., Any]):
        self._own, self._component, self._call = own, component, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._component, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


class Forge:
    """Forge's own process."""

    def load(self, path: Path, exactly: bool = False) -> ForgeLoaded:
        """As Forge does when the checkpoint is chosen and a picture asked for; everything is in fp32 here."""
        from modules import sd_models
        from modules_forge import main_entry

        sd_models.list_models()
        main_entry.checkpoint_change(path.name, save=False, refresh=False)
        main_entry.refresh_model_loading_parameters()
        sd_models.model_data.forge_hash = ""
        return ForgeLoaded(sd_models.forge_model_reload()[0])


def write_lora(tensors: dict[str, Any]) -> str:
    """A LoRA file where Forge finds it; gives its name, which no other has."""
    from modules import shared
    from safetensors.torch import save_file

    name = f"contract-{next(_numbers):06}"
    Path(shared.cmd_opts.lora_dir).mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(Path(shared.cmd_opts.lora_dir) / f"{name}.safetensors"))
    return name


def with_thin_text_encoders() -> None:
    """Forge builds text encoders by fixed configurations; SDXL's second has 695 million weights, too many for tests."""
    from transformers import CLIPTextConfig

    own = CLIPTextConfig.from_pretrained

    def thin(*args: Any, **kwargs: Any) -> Any:
        config = own(*args, **kwargs)
        # SD 2's has one layer less than its checkpoints: the last, which the model never saw
        config.num_hidden_layers = TEXT_LAYERS - (config.num_hidden_layers == 23)
        return config

    CLIPTextConfig.from_pretrained = staticmethod(thin)
