"""A1111, or its stand-in, as a place for the checks: the checkpoint that is chosen at the top of its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from .loaded import SIDE, state_of_modules

PROMPT = "a cat on a wall"
SIZES = ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
# adapters on OpenCLIP's q, k and v sit on views that A1111 itself does not call: these two have their own form here
REPLACED = ("check_gradients_equal_plain_autograds", "check_previews_equal_the_saved_lora_in_the_hosts_loader")


@dataclass
class A1111Loaded:
    """`shared.sd_model`, and the host that borrows it."""

    model: Any

    @property
    def host(self) -> Any:
        from trainer_core.hosts.webui_ldm import LdmHost

        return LdmHost(self.model)

    def picture(self, seed: int = 5, prompt: str = PROMPT) -> Any:
        """By process_images, as a click on Generate runs it."""
        import numpy as np
        import torch
        from modules import processing, shared

        shared.state.interrupted = False
        p = processing.StableDiffusionProcessingTxt2Img(
            **{"sd_model": self.model, "prompt": prompt, "negative_prompt": "", "seed": seed, "steps": 2},
            **{"width": SIDE, "height": SIDE, "cfg_scale": 3.0, "sampler_name": "Euler"},
            **{"do_not_save_samples": True, "do_not_save_grid": True},
        )
        return torch.from_numpy(np.array(processing.process_images(p).images[0]) / np.float32(255))

    def picture_with(self, tensors: dict[str, Any], stem: str = "checked") -> Any:
        """By `<lora:…>` in the prompt."""
        write_lora(tensors, stem)
        return self.picture(prompt=f"{PROMPT} <lora:{stem}:1>")

    def state(self) -> dict[str, Any]:
        import ldm.modules.attention
        import sgm.modules.attention
        import torch
        from modules import devices, lowvram, sd_hijack, sd_unet

        hijack = sd_hijack.model_hijack
        # encode and decode: --medvram's; the others are LDM's own checkpointing and the UNet's dtype
        own = ("forward", "encode", "decode", "checkpoint", "use_checkpoint", "dtype")
        with without_hooks_of_transformers(self.model):
            state = state_of_modules({"model": self.model}, own)
        state["classes"] = {name: type(module) for name, module in self.model.named_modules()}
        state["attention"] = [each.CrossAttention.forward for each in (ldm.modules.attention, sgm.modules.attention)]
        state["patches"] = (torch.nn.Linear.forward, torch.nn.MultiheadAttention.forward)
        state["devices"] = (devices.unet_needs_upcast, devices.dtype_unet, devices.dtype_vae, devices.fp8)
        state["hijack"] = (hijack.fixes, hijack.circular_enabled, sd_unet.current_unet, lowvram.module_in_gpu)
        return state

    def encoded_images(self, pixels: Any) -> Any:
        """img2img's latents, were the noise that they are drawn with zero."""
        import torch

        def zeros(*args: Any, **kwargs: Any) -> Any:
            return torch.zeros_like(args[0]) if isinstance(args[0], torch.Tensor) else torch.zeros(*args, **kwargs)

        with torch.no_grad(), mock.patch("torch.randn", zeros), mock.patch("torch.randn_like", zeros):
            return self.model.get_first_stage_encoding(self.model.encode_first_stage(pixels))

    def denoised(self, x: Any, sigma: Any, cond: Any) -> Any:
        import torch

        given: dict[str, Any] = {"c_crossattn": [cond.tokens]}
        if cond.sizes is not None:
            embedders = {each.input_key: each for each in self.model.conditioner.embedders}
            pairs = zip(SIZES, cond.sizes.float().split(2, dim=1))
            vector = torch.cat([cond.pooled, *(embedders[name](pair) for name, pair in pairs)], 1)
            given = {"crossattn": cond.tokens, "vector": vector}
        return self._wrapped()(x, sigma, cond=given)

    def sigmas(self, t: Any) -> Any:
        return self._wrapped().sigmas[t]

    def predicted_plainly(self, call: Callable[..., Any], captions: list[str], x_t: Any, t: Any) -> Any:
        """See REPLACED."""
        raise NotImplementedError

    def interrupt(self, pressed: bool) -> None:
        from modules import shared

        shared.state.interrupted = pressed

    def _wrapped(self) -> Any:
        from modules import sd_samplers

        return sd_samplers.create_sampler("Euler", self.model).model_wrap


class A1111:
    """A1111's own process."""

    def load(self, path: Path, exactly: bool = False) -> A1111Loaded:
        """As its dropdown does; everything is in fp32 here."""
        return load_with(path)


def load_with(path: Path, **flags: bool) -> A1111Loaded:
    """A checkpoint with no LoRA in it and usual settings; flags of the command line, e.g. medvram=True."""
    import networks
    from modules import devices, lowvram, sd_models, shared

    networks.loaded_networks.clear()
    usual = {"CLIP_stop_at_last_layers": 1, "emphasis": "Original", "sd_noise_schedule": "Default"}
    shared.opts.data.update(usual, use_downcasted_alpha_bar=False, live_previews_enable=False, samples_save=False)
    for flag in ("lowvram", "medvram"):
        setattr(shared.cmd_opts, flag, flags.get(flag, False))
    devices.fp8, lowvram.module_in_gpu = False, None
    sd_models.model_data.loaded_sd_models.clear()
    sd_models.list_models()
    info = next(each for each in sd_models.checkpoints_list.values() if each.filename == str(path))
    return A1111Loaded(sd_models.load_model(info))


def write_lora(tensors: dict[str, Any], stem: str) -> Path:
    """A LoRA file where A1111 finds it."""
    from modules import shared
    from safetensors.torch import save_file

    path = Path(shared.cmd_opts.lora_dir) / f"{stem}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path), {"ss_output_name": stem})
    return path


@contextmanager
def setting(name: str, value: Any) -> Iterator[None]:
    """A setting of the UI has another value inside."""
    from modules import shared

    before = shared.opts.data.get(name)
    shared.opts.data[name] = value
    try:
        yield
    finally:
        shared.opts.data[name] = before


@contextmanager
def without_hooks_of_transformers(model: Any) -> Iterator[None]:
    """Newer versions put hooks of their own on when hidden states are first asked for; here these are out of sight."""
    away = []
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if hook.__module__.startswith("transformers"):
                away.append((module._forward_hooks, dict(module._forward_hooks)))
                del module._forward_hooks[key]
    try:
        yield
    finally:
        for hooks, content in reversed(away):
            hooks.clear()
            hooks.update(content)
