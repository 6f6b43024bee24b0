"""Forge as a host: trains on the checkpoint that it has loaded, in its own process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..diffusion.cond import Cond
from ..diffusion.process import Process
from ..errors import HostError
from ..families.base import Family
from .base import SampleRequest, TextOptions, never
from .borrowing import checkpointable_blocks, frozen, thaw
from .checkpointing import checkpointed
from .fingerprints import fingerprint
from .tokens import Marks, TokenRows, joined_chunks, token_rows
from .webui_forge_borrow import (
    cast_to_compute,
    compute_dtype,
    differentiable_unet,
    embeddings_in_fp32,
    fp8_unpacked,
    load_whole,
    one_stream,
    send_away,
    text_in,
    undo_merged_loras,
)
from .webui_forge_model import (
    BaseWeights,
    family_of,
    file_name,
    loaded_engine,
    process_of,
    require_plain_weights,
    text_engines,
)
from .webui_forge_sampler import as_bytes, sample_latents

if TYPE_CHECKING:
    from PIL.Image import Image

_SINUSOIDS = 256  # of each of SDXL's six sizes


class ForgeHost:
    """Forge's `shared.sd_model`, borrowed for training; implements `hosts.base.Host`.

    Everything but the properties wants Forge's queue to be held: a generation works on the same weights."""

    def __init__(self, engine: Any = None):
        """engine: a ForgeDiffusionEngine; left out, the one of the checkpoint that is chosen in the UI, loaded if need
        be. Raises HostError where there is none, and for one that cannot be trained."""
        self._engine = loaded_engine() if engine is None else engine
        self.family: Family = family_of(self._engine)
        self._text_engines = text_engines(self._engine, self.family)
        self._dtype = torch.float32
        self._trained: tuple[str, ...] = ()
        self._is_crowded = self._is_checkpointed = False

    @property
    def name(self) -> str:
        """Forge and its version."""
        from modules_forge.forge_version import version

        return f"Forge {version}"

    @property
    def process(self) -> Process:
        """See `Host.process`."""
        return process_of(self._engine)

    @property
    def device(self) -> torch.device:
        """Where Forge computes this model."""
        return torch.device(self._unet.load_device)

    @property
    def model_name(self) -> str:
        """The checkpoint's file name."""
        return file_name(self._engine)

    @property
    def clip_skip(self) -> int:
        """See `Host.clip_skip`: the UI's setting, which SDXL's text encoders are not trained by."""
        from modules import shared

        return 1 if self.family.has_sizes else int(shared.opts.CLIP_stop_at_last_layers)

    def fingerprint(self) -> str:
        """Of the UNet and text encoders, without the LoRAs that are merged into the weights at the moment."""
        parts = (BaseWeights(self._unet, "diffusion_model."), BaseWeights(self._clip, "clip_"))
        return hashlib.sha256("".join(fingerprint(part) for part in parts).encode()).hexdigest()

    def vae_fingerprint(self) -> str:
        """Of the VAE."""
        return fingerprint(self._vae.first_stage_model)

    def components(self) -> Mapping[str, nn.Module]:
        """unet, te1 and, on SDXL, te2."""
        encoders = {name: engine.text_encoder.transformer for name, engine in self._text_engines.items()}
        return {"unet": self._unet.model.diffusion_model, **encoders}

    @contextmanager
    def borrowed(self, components: Sequence[str], precision: str, checkpointing: bool) -> Iterator[torch.dtype]:
        """See `Host.borrowed`. Weights are used as they are stored and cast layer by layer; fp8, in which no adapter
        could reckon, is cast once for the run. LoRAs of the last generation are taken out of the weights."""
        if torch.is_inference_mode_enabled():
            raise HostError("training cannot run in inference mode; run it on a thread of its own, as Job does")
        require_plain_weights(self.components())
        dtype = compute_dtype(precision, self.device)
        with ExitStack() as undo:
            for attribute in ("_dtype", "_trained", "_is_crowded", "_is_checkpointed"):
                undo.callback(setattr, self, attribute, getattr(self, attribute))
            self._dtype, self._trained, self._is_checkpointed = dtype, tuple(components), checkpointing
            undo_merged_loras(self._engine)
            undo.callback(send_away, self.device)
            load_whole(self._patchers_in_training())
            embeddings_in_fp32(engine.text_encoder.transformer for engine in self._text_engines.values())
            # of idle parts, too: once Forge moves such a weight outside inference mode, it is lost for torch
            thaw(self._parts())
            trunks = self._trunks_in_training()
            encoders = [trunk for name, trunk in trunks.items() if name != "unet"]
            undo.enter_context(frozen(trunks.values()))
            undo.enter_context(fp8_unpacked(trunks.values(), dtype))
            undo.enter_context(cast_to_compute(trunks.values(), dtype))
            undo.enter_context(text_in(encoders, dtype))
            undo.enter_context(differentiable_unet(trunks["unet"]))
            undo.enter_context(one_stream())
            if checkpointing:
                undo.enter_context(checkpointed(checkpointable_blocks(trunks)))
            yield dtype

    def weight_bytes(self) -> int:
        """See `Host.weight_bytes`: of the trunks in training. Weights that are stored in another dtype are cast anew in
        every forward, and autograd keeps the copies until the backward; checkpointed blocks drop theirs."""
        weights = [weight for trunk in self._trunks_in_training().values() for weight in trunk.parameters()]
        casts = () if self._is_checkpointed else (each for each in weights if each.dtype != self._dtype)
        return sum(each.nbytes for each in weights) + sum(each.numel() * self._dtype.itemsize for each in casts)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See `Host.encode_images`."""
        self._load(self._vae.patcher)
        vae = self._vae.first_stage_model
        with torch.inference_mode():
            moved = pixels.to(self._vae.device, self._vae.vae_dtype)
            latents = vae.process_in(vae.encode(moved, lambda posterior: posterior.mode()).float())
        return latents.clone().to(self.device, torch.float32)

    def encode_texts(self, captions: Sequence[str], options: TextOptions) -> Cond:
        """See `Host.encode_texts`; the layers that Forge's prompts are read from, without its prompt syntax and its
        embeddings; brackets are weights where `options.weighted` says so, and then by kohya's rule.

        SD 1.x: the chosen layer, normalised. SD 2.x: counted from the last but one, as its text encoder is trained.
        SDXL: both encoders' last but one, and the second's pooled vector."""
        if not self._trains_text:
            self._load(self._clip)
        with nullcontext() if self._trains_text else torch.no_grad():
            encoded = [self._encoded(name, captions, options) for name in self._text_engines]
        tokens = torch.cat([hidden for hidden, _ in encoded], dim=-1)
        pooled = encoded[-1][1]
        return Cond(joined_chunks(tokens, options.chunks), None if pooled is None else pooled[:: options.chunks])

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """See `Host.predict`; by the diffusion model itself, past Forge's σ-scaled wrapper around it."""
        if self._is_crowded:
            self._make_room()
        extra = {"y": self._vector(cond).to(self._dtype)} if self.family.has_sizes else {}
        context = cond.tokens.to(self._dtype)
        unet = self._unet.model.diffusion_model
        return unet(x_t.to(self._dtype), t.float(), context=context, transformer_options={}, **extra).float()

    @torch.no_grad()
    def sample(self, request: SampleRequest, is_cancelled: Callable[[], bool] = never) -> Image:
        """See `Host.sample`: Euler, as Forge's txt2img runs it; its Interrupt stops it, too."""
        from PIL import Image

        positive, negative = (self._conditioning(each, request) for each in (request.prompt, request.negative_prompt))
        if self.family.has_sizes and not request.negative_prompt:
            negative = _silenced(negative)
        self._is_crowded = True
        latents = sample_latents(self._engine, positive, negative, request, is_cancelled)
        return Image.fromarray(as_bytes(self._engine.decode_first_stage(latents)[0]).numpy())

    @property
    def _unet(self) -> Any:
        return self._engine.forge_objects_original.unet

    @property
    def _clip(self) -> Any:
        return self._engine.forge_objects_original.clip.patcher

    @property
    def _vae(self) -> Any:
        return self._engine.forge_objects_original.vae

    @property
    def _trains_text(self) -> bool:
        return any(component != "unet" for component in self._trained)

    def _patchers_in_training(self) -> list[Any]:
        return [self._unet, self._clip] if self._trains_text else [self._unet]

    def _trunks_in_training(self) -> dict[str, nn.Module]:
        # gradients of the text encoders' adapters pass through the UNet, so it is there even when it does not learn
        return {name: trunk for name, trunk in self.components().items() if name == "unet" or name in self._trained}

    def _parts(self) -> list[nn.Module]:
        return [self._unet.model, self._clip.model, self._vae.first_stage_model]

    def _load(self, patcher: Any) -> None:
        """A part that does not learn; for the others it may be made room."""
        from backend import memory_management

        self._is_crowded = True
        with torch.inference_mode():
            memory_management.load_models_gpu([patcher])

    def _make_room(self) -> None:
        """After the VAE, the sampler or an idle text encoder took part: the models in training alone, and wholly."""
        load_whole(self._patchers_in_training())
        thaw(self._parts())
        self._is_crowded = False

    def _encoded(self, component: str, captions: Sequence[str], options: TextOptions) -> tuple[Tensor, Tensor | None]:
        """Hidden states [B · chunks, 77, D] and, of SDXL's second encoder, pooled vectors [B · chunks, P]."""
        engine = self._text_engines[component]
        text_model = engine.text_encoder.transformer.text_model
        rows = self._rows(engine.tokenizer, captions, options)
        outputs = engine.text_encoder.transformer(rows.ids.to(self._clip.load_device), output_hidden_states=True)
        hidden = outputs.hidden_states[-2 if self.family.has_sizes else -options.clip_skip]
        if engine.final_layer_norm:
            hidden = text_model.final_layer_norm(hidden)
        pooled = None
        if engine.return_pooled:
            pooled = engine.text_encoder.transformer.text_projection(outputs.pooler_output)
            pooled = pooled.to(self.device, torch.float32)
        return rows.weighed(hidden).to(self.device, torch.float32), pooled

    def _rows(self, tokenizer: Any, captions: Sequence[str], options: TextOptions) -> TokenRows:
        def tokenize(texts: Sequence[str]) -> list[list[int]]:
            return tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

        marks = Marks(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        return token_rows(captions, tokenize, marks, options)

    def _vector(self, cond: Cond) -> Tensor:
        """SDXL's vector conditioning [B, 2816]: the pooled text and the six sizes' sinusoids."""
        if cond.pooled is None or cond.sizes is None:
            raise HostError("SDXL needs pooled text and sizes; encode captions with this host and call Cond.sized")
        sizes = self._engine.embedder(cond.sizes.float().flatten()).view(len(cond.sizes), -1)
        return torch.cat([cond.pooled.float(), sizes.to(cond.pooled.device)], dim=1)

    def _conditioning(self, prompt: str, request: SampleRequest) -> Any:
        """What the engine's get_learned_conditioning gives for one prompt."""
        from modules import shared

        cond = self.encode_texts([prompt], request.text)
        if not self.family.has_sizes:
            return cond.tokens[0]
        crop = shared.opts.sdxl_crop_top, shared.opts.sdxl_crop_left
        sizes = torch.tensor([[request.height, request.width, *crop, request.height, request.width]])
        return {"crossattn": cond.tokens[0], "vector": self._vector(cond.sized(sizes.to(self.device)))[0]}


def _silenced(conditioning: dict[str, Tensor]) -> dict[str, Tensor]:
    """An empty negative prompt as Forge has it for SDXL: zeros, and the sizes."""
    vector = conditioning["vector"].clone()
    vector[: -6 * _SINUSOIDS] = 0
    return {"crossattn": torch.zeros_like(conditioning["crossattn"]), "vector": vector}
