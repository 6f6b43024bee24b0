"""A1111 as a host: trains on the LDM or sgm model that it has loaded, in its own process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..diffusion.cond import Cond
from ..diffusion.process import Process
from ..errors import HostError
from ..families.base import Family
from ..families.sd1 import SD1
from .base import SampleRequest, TextOptions, never
from .borrowing import checkpointable_blocks
from .checkpointing import checkpointed
from .fingerprints import fingerprint
from .tokens import Marks, TokenRows, joined_chunks, token_rows
from .webui_ldm_borrow import (
    as_the_checkpoint_is,
    compute_dtype,
    lent,
    own_checkpointing_off,
    plain_attention,
    shuttles_stopped,
    undo_merged_loras,
    weights_of,
)
from .webui_ldm_model import (
    BaseWeights,
    encoder_in,
    family_of,
    file_name,
    is_open_clip,
    loaded_model,
    process_of,
    require_trainable,
    text_encoders,
)
from .webui_ldm_openclip import OpenClipText
from .webui_ldm_sampler import as_bytes, sample_latents

if TYPE_CHECKING:
    from PIL.Image import Image

_SIZES = ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")


class LdmHost:
    """A1111's `shared.sd_model`, borrowed for training; implements `hosts.base.Host`.

    Everything but the properties wants A1111's queue to be held: a generation works on the same weights."""

    def __init__(self, model: Any = None):
        """model: an LDM LatentDiffusion or sgm DiffusionEngine as A1111 has prepared it; the one that it shows if left
        out. Raises HostError where there is none, and for one that cannot be trained."""
        self._model = loaded_model() if model is None else model
        self.family: Family = family_of(self._model)
        self._encoders = text_encoders(self._model, self.family)
        self._views = {name: _view(wrapper) for name, wrapper in self._encoders.items()}
        self._dtype = torch.float32
        self._trained: tuple[str, ...] = ()
        self._guests = ExitStack()
        self._present: tuple[nn.Module, ...] = ()

    @property
    def name(self) -> str:
        """A1111 and its version."""
        from modules import launch_utils

        return f"A1111 {launch_utils.git_tag()}".removesuffix(" <none>")

    @property
    def process(self) -> Process:
        """See `Host.process`."""
        return process_of(self._model)

    @property
    def device(self) -> torch.device:
        """Where A1111 computes."""
        from modules import devices

        return devices.device

    @property
    def model_name(self) -> str:
        """The checkpoint's file name."""
        return file_name(self._model)

    @property
    def clip_skip(self) -> int:
        """See `Host.clip_skip`: the UI's setting, which A1111 follows for SD 1.x alone."""
        from modules import shared

        return shared.opts.CLIP_stop_at_last_layers if self.family is SD1 else 1

    def fingerprint(self) -> str:
        """Of the UNet and text encoders, without the LoRAs that are merged into the weights at the moment."""
        parts = [fingerprint(BaseWeights(each)) for each in self._holders().values()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def vae_fingerprint(self) -> str:
        """Of the VAE."""
        return fingerprint(self._vae)

    def components(self) -> Mapping[str, nn.Module]:
        """unet, te1 and, on SDXL, te2; OpenCLIP's as `OpenClipText` shows them."""
        return {"unet": self._unet, **self._views}

    @contextmanager
    def borrowed(self, components: Sequence[str], precision: str, checkpointing: bool) -> Iterator[torch.dtype]:
        """See `Host.borrowed`. Weights that are stored in another dtype, fp8 too, are cast once for the run and put
        back afterwards; what does not learn waits in main memory."""
        if torch.is_inference_mode_enabled():
            raise HostError("training cannot run in inference mode; run it on a thread of its own, as Job does")
        require_trainable(self._holders())
        dtype = compute_dtype(precision, self.device)
        with ExitStack() as undo:
            undo.callback(_empty_cache)
            for attribute in ("_dtype", "_trained", "_guests", "_present"):
                undo.callback(setattr, self, attribute, getattr(self, attribute))
            self._dtype, self._trained = dtype, tuple(components)
            undo.enter_context(shuttles_stopped(self._model))
            undo_merged_loras(self._model)
            undo.enter_context(as_the_checkpoint_is(self._model, dtype))
            for module in self._idle():
                undo.enter_context(lent(module, torch.device("cpu")))
            for module in self._working():
                undo.enter_context(lent(module, self.device, dtype))
            undo.enter_context(plain_attention(self._unet))
            undo.enter_context(own_checkpointing_off(self._unet))
            if checkpointing:
                undo.enter_context(checkpointed(checkpointable_blocks(self._trunks_in_training())))
            self._guests = undo.enter_context(ExitStack())
            yield dtype

    def weight_bytes(self) -> int:
        """See `Host.weight_bytes`: of the UNet and the text encoders that learn."""
        return sum(weight.nbytes for weight in weights_of(self._working()))

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """See `Host.encode_images`; in fp32, as SDXL's VAE overflows in half precision."""
        self._invite(self._vae, torch.float32)
        moments = self._vae.quant_conv(self._vae.encoder(pixels.to(self.device, torch.float32)))
        return moments.chunk(2, dim=1)[0] * self._model.scale_factor

    def encode_texts(self, captions: Sequence[str], options: TextOptions) -> Cond:
        """See `Host.encode_texts`; the layers that A1111's prompts are read from, without its prompt syntax and its
        embeddings; brackets are weights where `options.weighted` says so, and then by kohya's rule.

        SD 1.x: the chosen layer, normalised. SD 2.x: counted from the last but one, as its text encoder is trained.
        SDXL: both encoders' last but one, and the second's pooled vector."""
        with nullcontext() if self._trains_text else torch.no_grad():
            encoded = [self._encoded(name, captions, options) for name in self._encoders]
        tokens = torch.cat([hidden for hidden, _ in encoded], dim=-1)
        pooled = encoded[-1][1]
        return Cond(joined_chunks(tokens, options.chunks), None if pooled is None else pooled[:: options.chunks])

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """See `Host.predict`; by the UNet itself, past A1111's wrapper around it."""
        self._say_goodbye()
        extra = {"y": self._vector(cond).to(self._dtype)} if self.family.has_sizes else {}
        with self._computing(self._dtype):
            return self._unet(x_t.to(self._dtype), timesteps=t, context=cond.tokens.to(self._dtype), **extra).float()

    @torch.no_grad()
    def sample(self, request: SampleRequest, is_cancelled: Callable[[], bool] = never) -> Image:
        """See `Host.sample`: Euler, as A1111's txt2img runs it; its Interrupt stops it, too."""
        from PIL import Image

        positive = self._conditioning(request.prompt, request)
        negative = self._conditioning(request.negative_prompt, request, is_negative=True)
        self._say_goodbye()
        with self._computing(self._dtype):
            latents = sample_latents(self._model, positive, negative, request, is_cancelled)
        self._invite(self._vae, torch.float32)
        return Image.fromarray(as_bytes(self._model.decode_first_stage(latents.float())[0]).numpy())

    @property
    def _unet(self) -> nn.Module:
        return self._model.model.diffusion_model

    @property
    def _vae(self) -> Any:
        return self._model.first_stage_model

    @property
    def _trains_text(self) -> bool:
        return any(component != "unet" for component in self._trained)

    def _holders(self) -> dict[str, nn.Module]:
        """component → the module of A1111's that holds its weights."""
        return {"unet": self._unet, **{name: encoder_in(wrapper) for name, wrapper in self._encoders.items()}}

    def _working(self) -> list[nn.Module]:
        """What takes part in a step. Text encoders do so together: one that does not learn is read beside the other."""
        return list(self._holders().values()) if self._trains_text else [self._unet]

    def _idle(self) -> list[nn.Module]:
        return [self._vae, *(each for each in self._holders().values() if each not in self._working())]

    def _trunks_in_training(self) -> dict[str, nn.Module]:
        # gradients of the text encoders' adapters pass through the UNet, so it is there even when it does not learn
        return {name: trunk for name, trunk in self.components().items() if name == "unet" or name in self._trained}

    def _invite(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Bring something idle onto the device, until the next step."""
        if module not in self._present:
            self._guests.enter_context(lent(module, self.device, dtype))
            self._present += (module,)

    def _say_goodbye(self) -> None:
        """The guests leave, so that the device's memory is there for the step."""
        self._present = ()
        self._guests.close()

    def _computing(self, dtype: torch.dtype) -> AbstractContextManager[Any]:
        """LDM's layers expect autocast wherever their weights are in half precision."""
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device.type, dtype)

    def _encoded(self, name: str, captions: Sequence[str], options: TextOptions) -> tuple[Tensor, Tensor | None]:
        """A text encoder's hidden states [B · chunks, 77, D] and, of SDXL's second, pooled vectors [B · chunks, P]."""
        wrapper, view, dtype = self._encoders[name], self._views[name], self._dtype
        if not self._trains_text:
            dtype = self._stored_dtype(encoder_in(wrapper))
            self._invite(encoder_in(wrapper), dtype)
        rows = _rows(wrapper, captions, options)
        ids = rows.ids.to(self.device, non_blocking=True)
        with self._computing(dtype):
            if isinstance(view, OpenClipText):
                states = view(ids)
                pooled = view.pooled(states[-1], ids).float() if self.family.has_sizes else None
                hidden = states[-2] if self.family.has_sizes else view.final_layer_norm(states[-1 - options.clip_skip])
            else:
                hidden, pooled = self._clip_layer(view, ids, options.clip_skip), None
        return rows.weighed(hidden.float()), pooled

    def _clip_layer(self, encoder: Any, ids: Tensor, clip_skip: int) -> Tensor:
        read = encoder(input_ids=ids, output_hidden_states=True)
        if self.family.has_sizes:
            return read.hidden_states[-2]
        if clip_skip == 1:
            return read.last_hidden_state
        return encoder.text_model.final_layer_norm(read.hidden_states[-clip_skip])

    def _stored_dtype(self, encoder: nn.Module) -> torch.dtype:
        """What a text encoder that does not learn computes in: as A1111 keeps it, where the device likes that."""
        matrix = next(weight for weight in encoder.parameters() if weight.ndim > 1)
        is_half = matrix.dtype in (torch.float16, torch.bfloat16) and self.device.type == "cuda"
        return matrix.dtype if is_half else torch.float32

    def _vector(self, cond: Cond) -> Tensor:
        """SDXL's vector conditioning [B, 2816]: the pooled text and the six sizes' sinusoids, by its own embedders."""
        if cond.pooled is None or cond.sizes is None:
            raise HostError("SDXL needs pooled text and sizes; encode captions with this host and call Cond.sized")
        embedders = {getattr(each, "input_key", ""): each for each in self._model.conditioner.embedders}
        pairs = cond.sizes.to(self.device).float().split(2, dim=1)
        sizes = [embedders[name](pair) for name, pair in zip(_SIZES, pairs, strict=True)]
        return torch.cat([cond.pooled.float(), *(each.float() for each in sizes)], dim=1)

    def _conditioning(self, text: str, request: SampleRequest, is_negative: bool = False) -> Any:
        """One picture's, as the model's own get_learned_conditioning gives it to the sampler."""
        from modules import shared

        cond = self.encode_texts([text], request.text)
        if not self.family.has_sizes:
            return cond.tokens[0]
        if is_negative and not text:
            cond = cond.map(torch.zeros_like)  # A1111 does so for SDXL's empty negative prompts
        size = (request.height, request.width)
        crop = (shared.opts.sdxl_crop_top, shared.opts.sdxl_crop_left)
        vector = self._vector(cond.sized(torch.tensor([[*size, *crop, *size]])))
        return {"crossattn": cond.tokens[0], "vector": vector[0]}


def _view(wrapper: Any) -> nn.Module:
    encoder = encoder_in(wrapper)
    return OpenClipText(encoder) if is_open_clip(wrapper) else encoder


def _rows(wrapper: Any, captions: Sequence[str], options: TextOptions) -> TokenRows:
    marks = Marks(wrapper.id_start, wrapper.id_end, wrapper.id_pad)
    literal = captions if options.weighted else [_literal(each) for each in captions]
    return token_rows(literal, lambda texts: wrapper.tokenize(list(texts)), marks, options)


def _literal(caption: str) -> str:
    """Parentheses are themselves in captions; in A1111's prompts that is written with a backslash."""
    return caption.replace("\\(", "(").replace("\\)", ")")


def _empty_cache() -> None:
    from modules import devices

    devices.torch_gc()
