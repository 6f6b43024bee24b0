"""ComfyUI as a place for the checks: a model as a graph holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .loaded import SIDE, TEXT_LAYERS, state_of_modules


@dataclass
class ComfyLoaded:
    """MODEL, CLIP and VAE as a loader node gives them, and the host that borrows them."""

    model: Any
    clip: Any
    vae: Any
    visible: float = 0.003

    @property
    def host(self) -> Any:
        from trainer_core.hosts.comfy import ComfyHost

        return ComfyHost(self.model, self.clip, self.vae)

    def picture(self, seed: int = 5) -> Any:
        """By CLIPTextEncode, KSampler, VAEDecode."""
        import torch

        import nodes

        with torch.inference_mode():
            encode = nodes.CLIPTextEncode().encode
            positive, negative = encode(self.clip, "a cat on a wall")[0], encode(self.clip, "")[0]
            empty = {"samples": torch.zeros(1, 4, SIDE // 8, SIDE // 8)}
            latent = nodes.common_ksampler(
                self.model, seed, 2, 3.0, "euler", "normal", positive, negative, empty, denoise=1.0
            )[0]
            return self.vae.decode(latent["samples"])[0].clone()

    def picture_with(self, tensors: dict[str, Any]) -> Any:
        """By LoraLoader's own function."""
        import comfy.sd
        import torch

        with torch.inference_mode():
            model, clip = comfy.sd.load_lora_for_models(self.model, self.clip, tensors, 1.0, 1.0)
        return ComfyLoaded(model, clip, self.vae).picture()

    def state(self) -> dict[str, Any]:
        from comfy import model_management

        state = state_of_modules(
            {"model": self.model.model, "clip": self.clip.cond_stage_model}, ("forward", "comfy_cast_weights")
        )
        state["in_training"] = getattr(model_management, "in_training", None)
        state["throw"] = model_management.throw_exception_if_processing_interrupted
        for part in (self.model, self.clip.patcher):
            counts = len(part.patches), len(part.backup), len(part.object_patches)
            state[f"{type(part.model).__name__} patcher"] = counts
        return state

    def encoded_images(self, pixels: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self.model.model.process_latent_in(self.vae.encode((pixels.movedim(1, -1) + 1) / 2)).clone()

    def denoised(self, x: Any, sigma: Any, cond: Any) -> Any:
        import torch

        model, extra = self.model.model, {}
        if cond.sizes is not None:
            names = ("height", "width", "crop_h", "crop_w", "target_height", "target_width")
            rows = [dict(zip(names, row)) for row in cond.sizes.tolist()]
            pooled = [{"pooled_output": cond.pooled[number : number + 1]} for number in range(len(rows))]
            extra["y"] = torch.cat([model.encode_adm(**row, **text) for row, text in zip(rows, pooled)])
        return model.apply_model(x, sigma, c_crossattn=cond.tokens, **extra)

    def sigmas(self, t: Any) -> Any:
        return self.model.model.model_sampling.sigma(t)

    def predicted_plainly(self, call: Callable[..., Any], captions: list[str], x_t: Any, t: Any) -> Any:
        import torch

        stage = self.clip.cond_stage_model
        stage.reset_clip_options()
        encoders = {
            component: (letter, getattr(stage, f"clip_{letter}"))
            for component, letter in (("te1", "l"), ("te2", "g"))
            if hasattr(stage, f"clip_{letter}")
        }

        def encode(component: str, caption: str) -> tuple[Any, Any]:
            letter, encoder = encoders[component]
            tokens = [token for token, _ in self.clip.tokenize(caption)[letter][0]]
            outputs = call(
                component,
                torch.tensor([tokens]),
                num_tokens=[tokens.index(49407) + 1],
                intermediate_output=encoder.layer_idx,
                final_layer_norm_intermediate=encoder.layer_norm_hidden_state,
                dtype=torch.float32,
            )
            return (outputs[0] if encoder.layer == "last" else outputs[1]), outputs[2]

        rows = []
        for caption in captions:
            parts = [encode(component, caption) for component in encoders]
            rows.append((torch.cat([hidden for hidden, _ in parts], dim=-1), parts[-1][1]))
        extra = {}
        if "te2" in encoders:
            adm = [self.model.model.encode_adm(width=128, height=128, pooled_output=pooled) for _, pooled in rows]
            extra["y"] = torch.cat(adm)
        context = torch.cat([hidden for hidden, _ in rows])
        return call("unet", x_t, t.float(), context=context, transformer_options={}, **extra)

    def interrupt(self, pressed: bool) -> None:
        from comfy import model_management

        model_management.interrupt_current_processing(pressed)


class Comfy:
    """ComfyUI's own process."""

    def load(self, path: Path, exactly: bool = False) -> ComfyLoaded:
        """In inference mode, as nodes run; with the text encoders stored in fp16 unless `exactly`."""
        import torch
        from tiny_loader import load_tiny

        with torch.inference_mode():
            # in fp16 ComfyUI's loader rounds W + ΔW, which a random model magnifies
            return ComfyLoaded(*load_tiny(path, TEXT_LAYERS, torch.float32 if exactly else None))
