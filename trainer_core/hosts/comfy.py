"""ComfyUI as a host: trains on the MODEL, CLIP and VAE that a graph holds, in ComfyUI's own process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..diffusion.cond import Cond
from ..diffusion.process import Process
from ..errors import HostError, SamplingStopped
from ..families.base import Family
from ..families.sd2 import SD2
from .base import SampleRequest, TextOptions, never
from .borrowing import checkpointable_blocks, frozen, thaw
from .checkpointing import checkpointed
from .comfy_borrow import (
    cast_to_compute,
    compute_dtype,
    interrupts_left_to,
    load_whole,
    marked_as_training,
    out_of_place_residuals,
    unshared,
)
from .comfy_model import (
    BaseWeights,
    family_of,
    file_name,
    process_of,
    require_plain_weights,
    require_unpatched,
    text_encoders,
)
from .fingerprints import fingerprint
from .tokens import Marks, TokenRows, joined_chunks, token_rows

if TYPE_CHECKING:
    from PIL.Image import Image


def interrupted() -> bool:
    """Whether somebody has pressed ComfyUI's cancel; asking does not reset it."""
    from comfy import model_management

    return model_management.processing_interrupted()


class ComfyHost:
    """A MODEL, CLIP and VAE that are borrowed for training; implements `hosts.base.Host`.

    Make it on the thread that runs the node, use it on another: nodes run in inference mode, where nothing learns."""

    def __init__(self, model: Any, clip: Any, vae: Any, model_name: str = "", allow_patched: bool = False):
        """model: comfy.model_patcher.ModelPatcher. clip: comfy.sd.CLIP. vae: comfy.sd.VAE, all of one checkpoint.

        model_name: the checkpoint's; newer ComfyUIs tell it themselves. allow_patched: train upon the LoRAs that the
        model carries instead of refusing. Raises HostError for a part that is missing."""
        for part, name in ((model, "MODEL"), (clip, "CLIP"), (vae, "VAE")):
            if part is None:
                raise HostError(f"{name} is missing; connect all three outputs of the checkpoint loader")
        self.model_name = model_name or file_name(model)
        self._model, self._clip_patcher, self._clip, self._vae = model, clip.patcher, clip, vae
        self._allow_patched = allow_patched
        self._node_thread = threading.get_ident()
        self._dtype = torch.float32
        self._trained: tuple[str, ...] = ()
        self._is_crowded = self._is_checkpointed = False

    @property
    def name(self) -> str:
        """ComfyUI and its version."""
        try:
            from comfyui_version import __version__
        except ImportError:
            return "ComfyUI"
        return f"ComfyUI {__version__}"

    @property
    def family(self) -> Family:
        """See `Host.family`."""
        return family_of(self._model.model)

    @property
    def process(self) -> Process:
        """See `Host.process`; follows a ModelSamplingDiscrete node."""
        return process_of(self._model)

    @property
    def device(self) -> torch.device:
        """Where ComfyUI computes this model."""
        return self._model.load_device

    @property
    def clip_skip(self) -> int:
        """See `Host.clip_skip`: as CLIP Set Last Layer has it. Raises HostError for a layer that none is trained on."""
        layer, encoder = self._clip.layer_idx, self._text_encoders()["te1"]
        if self.family.has_sizes or layer is None or abs(layer) > encoder.num_layers:
            return 1
        from_the_end = -layer if layer < 0 else encoder.num_layers - layer
        clip_skip = from_the_end - 1 if self.family is SD2 else from_the_end
        if clip_skip < 1:
            raise HostError(
                "CLIP Set Last Layer takes SD 2's very last layer, which the model never saw; take -2, its usual one"
            )
        return clip_skip

    def fingerprint(self) -> str:
        """Of the UNet and text encoders, without the LoRAs that are worked into the weights at the moment."""
        parts = (BaseWeights(self._model, "diffusion_model."), BaseWeights(self._clip_patcher))
        return hashlib.sha256("".join(fingerprint(part) for part in parts).encode()).hexdigest()

    def vae_fingerprint(self) -> str:
        """Of the VAE."""
        return fingerprint(BaseWeights(self._vae.patcher))

    def components(self) -> Mapping[str, nn.Module]:
        """unet, te1 and, on SDXL, te2."""
        encoders = {name: encoder.transformer for name, encoder in self._text_encoders().items()}
        return {"unet": self._model.model.diffusion_model, **encoders}

    @contextmanager
    def borrowed(self, components: Sequence[str], precision: str, checkpointing: bool) -> Iterator[torch.dtype]:
        """See `Host.borrowed`. Use it on a thread of its own, as `Job` does; nodes run in inference mode.

        Nothing of the host's weights is converted: they are used as they are stored, cast layer by layer."""
        if torch.is_inference_mode_enabled():
            raise HostError("training cannot run in inference mode; run it on a thread of its own, as Job does")
        if not self._allow_patched:
            require_unpatched((self._model, self._clip_patcher))
        dtype = compute_dtype(precision, self.device)
        with ExitStack() as undo:
            undo.callback(_empty_cache)
            for attribute in ("_model", "_clip_patcher", "_dtype", "_trained", "_is_crowded", "_is_checkpointed"):
                undo.callback(setattr, self, attribute, getattr(self, attribute))
            undo.enter_context(interrupts_left_to(self._node_thread))
            self._model = unshared(self._model, self.device)
            self._dtype, self._trained, self._is_checkpointed = dtype, tuple(components), checkpointing
            if self._trains_text:
                self._clip_patcher = unshared(self._clip_patcher, self.device)
            load_whole(self._patchers_in_training(), self.device, alone=True)
            trunks = self._trunks_in_training()
            require_plain_weights(trunks)
            thaw(trunks.values())
            undo.enter_context(frozen(trunks.values()))
            undo.enter_context(cast_to_compute(trunks.values(), dtype))
            undo.enter_context(out_of_place_residuals(trunk for name, trunk in trunks.items() if name != "unet"))
            undo.enter_context(marked_as_training())
            if checkpointing:
                undo.enter_context(checkpointed(checkpointable_blocks(trunks)))
            yield dtype

    def weight_bytes(self) -> int:
        """See `Host.weight_bytes`: of the trunks in training. Weights that are stored in another dtype are cast anew in
        every forward, and autograd keeps the copies until the backward; checkpointed blocks drop theirs."""
        weights = [weight for trunk in self._trunks_in_training().values() for weight in trunk.parameters()]
        casts = () if self._is_checkpointed else (each for each in weights if each.dtype != self._dtype)
        return sum(each.nbytes for each in weights) + sum(each.numel() * self._dtype.itemsize for each in casts)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """See `Host.encode_images`."""
        self._is_crowded = True
        pictures = (pixels.float().cpu().movedim(1, -1) + 1) / 2  # ComfyUI's are [B, H, W, C] in [0, 1], on the CPU
        # a clone, as ComfyUI may give a tensor that it made in inference mode
        latents = self._vae.encode(pictures.clamp(0, 1)).clone()
        return self._model.model.process_latent_in(latents).to(self.device, torch.float32)

    def encode_texts(self, captions: Sequence[str], options: TextOptions) -> Cond:
        """See `Host.encode_texts`; the layers that CLIPTextEncode takes, without its embedding syntax; brackets are
        weights where `options.weighted` says so, and then by kohya's rule, not by ComfyUI's.

        SD 1.x: the chosen layer, normalised. SD 2.x: counted from the last but one, as its text encoder is trained.
        SDXL: both encoders' last but one, and the second's pooled vector."""
        if not self._trains_text:
            self._load_text_encoders()
        with nullcontext() if self._trains_text else torch.no_grad():
            encoded = [self._encoded(name, captions, options) for name in self._text_encoders()]
        tokens = torch.cat([hidden for hidden, _ in encoded], dim=-1)
        pooled = encoded[-1][1][:: options.chunks] if self.family.has_sizes else None
        return Cond(joined_chunks(tokens, options.chunks), pooled)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """See `Host.predict`; by the diffusion model itself, past ComfyUI's σ-scaled wrapper around it."""
        if self._is_crowded:
            self._make_room()
        extra = {"y": self._size_conditioning(cond).to(self._dtype)} if self.family.has_sizes else {}
        return self._model.model.diffusion_model(
            x_t.to(self._dtype),
            t.float(),
            context=cond.tokens.to(self._dtype),
            transformer_options={"optimized_attention_override": _differentiable_attention},
            **extra,
        ).float()

    @torch.no_grad()
    def sample(self, request: SampleRequest, is_cancelled: Callable[[], bool] = never) -> Image:
        """See `Host.sample`: Euler, as KSampler runs it; ComfyUI's own cancel stops it, too."""
        import comfy.sample

        def stop_if_asked(*_: Any) -> None:
            if is_cancelled() or interrupted():
                raise SamplingStopped("the preview was stopped between two steps of its sampler; queue the graph again")

        self._is_crowded = True
        positive, negative = (self._conditioning(each, request) for each in (request.prompt, request.negative_prompt))
        empty = torch.zeros(1, 4, request.height // 8, request.width // 8)
        noise = comfy.sample.prepare_noise(empty, request.seed)
        latents = comfy.sample.sample(
            *(self._model, noise, request.steps, request.cfg, "euler", "normal", positive, negative, empty),
            callback=stop_if_asked,
            disable_pbar=True,
            seed=request.seed,
        )
        return _picture(self._vae.decode(latents)[0])

    @property
    def _trains_text(self) -> bool:
        return any(component != "unet" for component in self._trained)

    def _text_encoders(self) -> dict[str, Any]:
        return text_encoders(self._clip_patcher.model, self.family)

    def _patchers_in_training(self) -> list[Any]:
        return [self._model, self._clip_patcher] if self._trains_text else [self._model]

    def _trunks_in_training(self) -> dict[str, nn.Module]:
        trunks = self.components()
        # gradients of the text encoders' adapters pass through the UNet, so it is there even when it does not learn
        return {name: trunk for name, trunk in trunks.items() if name == "unet" or name in self._trained}

    def _load_text_encoders(self) -> None:
        from comfy import model_management

        self._is_crowded = True
        model_management.load_models_gpu([self._clip_patcher])

    def _make_room(self) -> None:
        """After the VAE, the sampler or an idle text encoder took part: the models in training alone, and wholly."""
        load_whole(self._patchers_in_training(), self.device, alone=True)
        thaw(self._trunks_in_training().values())
        self._is_crowded = False

    def _encoded(self, component: str, captions: Sequence[str], options: TextOptions) -> tuple[Tensor, Tensor]:
        """Hidden states [B · chunks, 77, D] and pooled vectors [B · chunks, P] of one text encoder."""
        encoder = self._text_encoders()[component]
        rows = self._rows(component, captions, options)
        layer = self._layer(options.clip_skip)
        last, inner, pooled, *_ = encoder.transformer(
            rows.ids.to(self._clip_patcher.load_device),
            num_tokens=rows.lengths,
            intermediate_output=layer,
            final_layer_norm_intermediate=encoder.layer_norm_hidden_state,
            dtype=self._dtype if self._trains_text else torch.float32,
        )
        hidden = rows.weighed(last if layer is None else inner)
        return hidden.to(self.device, torch.float32), pooled.to(self.device, torch.float32)

    def _layer(self, clip_skip: int) -> int | None:
        if self.family.has_sizes:
            return -2
        if self.family is SD2:
            return -1 - clip_skip
        return None if clip_skip == 1 else -clip_skip

    def _rows(self, component: str, captions: Sequence[str], options: TextOptions) -> TokenRows:
        name = next(name for name in ("clip_h", "clip_l") if hasattr(self._clip.tokenizer, name))
        tokenizer = getattr(self._clip.tokenizer, "clip_g" if component == "te2" else name)

        def tokenize(texts: Sequence[str]) -> list[list[int]]:
            return [tokenizer.tokenizer(text, verbose=False)["input_ids"][1:-1] for text in texts]

        marks = Marks(tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token)
        return token_rows(
            captions if options.weighted else [_literal(each) for each in captions], tokenize, marks, options
        )

    def _size_conditioning(self, cond: Cond) -> Tensor:
        """SDXL's vector conditioning [B, 2816]: the pooled text and the six sizes' sinusoids."""
        if cond.pooled is None or cond.sizes is None:
            raise HostError("SDXL needs pooled text and sizes; encode captions with this host and call Cond.sized")
        sizes = self._model.model.embedder(cond.sizes.float().flatten()).view(len(cond.sizes), -1)
        return torch.cat([cond.pooled.float(), sizes.to(cond.pooled.device)], dim=1)

    def _conditioning(self, prompt: str, request: SampleRequest) -> list[list[Any]]:
        cond = self.encode_texts([prompt], request.text)
        return [[cond.tokens, {} if cond.pooled is None else {"pooled_output": cond.pooled}]]


def _literal(caption: str) -> str:
    """Parentheses are themselves in captions; in ComfyUI's prompts that is written with a backslash."""
    return caption.replace("\\(", "(").replace("\\)", ")")


def _differentiable_attention(_: Any, *args: Any, **kwargs: Any) -> Tensor:
    """torch's attention, whichever ComfyUI runs with: Sage has no backward, sub-quadratic is slow in it."""
    from comfy.ldm.modules.attention import attention_pytorch

    return attention_pytorch(*args, **kwargs)


def _picture(pixels: Tensor) -> Image:
    from PIL import Image

    return Image.fromarray((pixels.float().clamp(0, 1) * 255).round().byte().cpu().numpy())


def _empty_cache() -> None:
    from comfy import model_management

    model_management.soft_empty_cache()
