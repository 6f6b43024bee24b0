"""diffusers as a host, for command line and demo: a pipeline object, its folder, or a single-file checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..diffusion.cond import Cond
from ..diffusion.process import Process
from ..errors import HostError, SamplingStopped
from ..families.base import Family
from ..families.sd1 import SD1
from ..families.sd2 import SD2
from ..families.sdxl import SDXL
from .base import SampleRequest, TextOptions, never
from .checkpointing import checkpointed
from .fingerprints import fingerprint
from .tokens import Marks, TokenRows, joined_chunks, token_rows

if TYPE_CHECKING:
    from PIL.Image import Image

_BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D", "CLIPEncoderLayer")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_host(model: str | Path, device: torch.device | str | None = None) -> DiffusersHost:
    """A host from a diffusers folder or a single-file `.safetensors` checkpoint; nothing is downloaded.

    device: the GPU where there is one, else the CPU. Raises HostError for what cannot be loaded."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return DiffusersHost(_load_pipeline(Path(model).expanduser()), chosen, Path(model).name)


class DiffusersHost:
    """A Stable Diffusion pipeline that is borrowed for training; implements `hosts.base.Host`."""

    def __init__(self, pipeline: Any, device: torch.device | str = "cpu", model_name: str = ""):
        """pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline, on any device and in any dtype."""
        self._pipeline = pipeline
        self.device = torch.device(device)
        self.model_name = model_name
        self.family = _family_of(pipeline)
        self._dtype = torch.float32

    @property
    def name(self) -> str:
        """diffusers and its version."""
        import diffusers

        return f"diffusers {diffusers.__version__}"

    @property
    def process(self) -> Process:
        """The scheduler's noise table and prediction type. Raises HostError if that is neither epsilon nor velocity."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        # every scheduler's config describes the same process; DDIM's table is the plain one, terminal SNR included
        config = self._pipeline.scheduler.config
        if config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
            raise HostError(
                f"the model predicts {config['prediction_type']}; only epsilon and v_prediction models can be trained"
            )
        scheduler: Any = DDIMScheduler.from_config(config)
        return Process(str(scheduler.config["prediction_type"]), scheduler.alphas_cumprod.float())

    @property
    def clip_skip(self) -> int:
        """A pipeline is asked for a layer with each prompt and has none of its own."""
        return 1

    def fingerprint(self) -> str:
        """Of the UNet and text encoders."""
        digests = [fingerprint(module) for module in self.components().values()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def vae_fingerprint(self) -> str:
        """Of the VAE."""
        return fingerprint(self._pipeline.vae)

    def components(self) -> Mapping[str, nn.Module]:
        """unet, te1 and, on SDXL, te2."""
        found = {"unet": self._pipeline.unet, "te1": self._pipeline.text_encoder}
        second = getattr(self._pipeline, "text_encoder_2", None)
        return found if second is None else {**found, "te2": second}

    @contextmanager
    def borrowed(self, components: Sequence[str], precision: str, checkpointing: bool) -> Iterator[torch.dtype]:
        """See `Host.borrowed`. The pipeline's own tensors are set aside, not converted, and put back on exit."""
        dtype = _DTYPES.get(precision) or _best_dtype(self.device)
        trunks = self.components()
        with ExitStack() as undo:
            for module in trunks.values():
                undo.enter_context(_lent(module, self.device, dtype))
            # in half precision SDXL's VAE overflows
            undo.enter_context(_lent(self._pipeline.vae, self.device, torch.float32))
            if checkpointing:
                undo.enter_context(checkpointed(_blocks_of(trunks.values())))
            undo.callback(setattr, self, "_dtype", self._dtype)
            self._dtype = dtype
            yield dtype

    def weight_bytes(self) -> int:
        """See `Host.weight_bytes`: everything, the VAE included, as it stays on the device."""
        modules = [*self.components().values(), self._pipeline.vae]
        return sum(weight.nbytes for module in modules for weight in module.parameters())

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """See `Host.encode_images`."""
        vae = self._pipeline.vae
        return vae.encode(pixels.to(self.device, torch.float32)).latent_dist.mean * vae.config.scaling_factor

    def encode_texts(self, captions: Sequence[str], options: TextOptions) -> Cond:
        """See `Host.encode_texts`. SDXL takes both encoders' last layer but one and the second's pooled vector."""
        pipeline = self._pipeline
        rows = self._rows(pipeline.tokenizer, captions, options)
        first = self._read(pipeline.text_encoder, rows)
        if not self.family.has_sizes:
            hidden = _layer(pipeline.text_encoder, first, options.clip_skip)
            return Cond(joined_chunks(rows.weighed(hidden), options.chunks))
        second_rows = self._rows(pipeline.tokenizer_2, captions, options)
        second = self._read(pipeline.text_encoder_2, second_rows)
        hidden = [rows.weighed(first.hidden_states[-2]), second_rows.weighed(second.hidden_states[-2])]
        return Cond(joined_chunks(torch.cat(hidden, dim=-1), options.chunks), second.text_embeds[:: options.chunks])

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """See `Host.predict`."""
        extra = None
        if self.family.has_sizes:
            extra = {"text_embeds": _present(cond.pooled).to(self._dtype), "time_ids": _present(cond.sizes)}
        unet = self._pipeline.unet
        return unet(x_t.to(self._dtype), t, cond.tokens.to(self._dtype), added_cond_kwargs=extra, return_dict=False)[0]

    def sample(self, request: SampleRequest, is_cancelled: Callable[[], bool] = never) -> Image:
        """See `Host.sample`; the pipeline's own scheduler."""
        return self.sample_batch([request], is_cancelled)[0]

    @torch.no_grad()
    def sample_batch(self, requests: Sequence[SampleRequest], is_cancelled: Callable[[], bool] = never) -> list[Image]:
        """Several pictures of one size, steps and cfg in one go; each is made from its own seed."""

        def stop_if_asked(_pipeline: Any, _step: int, _t: Any, inputs: dict[str, Any]) -> dict[str, Any]:
            if is_cancelled():
                raise SamplingStopped("the preview was stopped between two steps of its sampler; start the run again")
            return inputs

        pipeline, first = self._pipeline, requests[0]
        positive = self.encode_texts([each.prompt for each in requests], first.text).map(self._cast)
        negative = self.encode_texts([each.negative_prompt for each in requests], first.text).map(self._cast)
        pooled = {"pooled_prompt_embeds": positive.pooled, "negative_pooled_prompt_embeds": negative.pooled}
        with _scheduler_set_aside(pipeline), _quiet(pipeline):
            latents = pipeline(
                prompt_embeds=positive.tokens,
                negative_prompt_embeds=negative.tokens,
                **(pooled if self.family.has_sizes else {}),
                width=first.width,
                height=first.height,
                num_inference_steps=first.steps,
                guidance_scale=first.cfg,
                generator=[torch.Generator("cpu").manual_seed(each.seed) for each in requests],
                output_type="latent",
                callback_on_step_end=stop_if_asked,
            ).images
        vae = pipeline.vae
        pixels = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        return pipeline.image_processor.postprocess(pixels.float(), output_type="pil")

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype)

    def _rows(self, tokenizer: Any, captions: Sequence[str], options: TextOptions) -> TokenRows:
        def tokenize(texts: Sequence[str]) -> list[list[int]]:
            return tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False).input_ids

        marks = Marks(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        return token_rows(captions, tokenize, marks, options)

    def _read(self, encoder: Any, rows: TokenRows) -> Any:
        return encoder(rows.ids.to(self.device, non_blocking=True), output_hidden_states=True)


def _load_pipeline(model: Path) -> Any:
    try:
        import diffusers
    except ImportError:
        raise HostError("diffusers is not installed; run: pip install diffusers transformers accelerate") from None
    try:
        if model.is_dir():
            return diffusers.DiffusionPipeline.from_pretrained(model, local_files_only=True)
        if model.suffix != ".safetensors":
            raise HostError(
                f"{model.name}: only .safetensors checkpoints and diffusers folders are read; convert it first"
            )
        return _load_single_file(model, diffusers)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise HostError(
            f"{model}: cannot be loaded ({_first_line(error)}); check the file, or give a diffusers folder"
        ) from error


def _load_single_file(model: Path, diffusers: Any) -> Any:
    from safetensors import safe_open

    if not model.is_file():
        raise HostError(f"{model} does not exist; check the path")
    with safe_open(model, framework="pt") as file:
        is_xl = any(key.startswith("conditioner.embedders.1.") for key in file.keys())  # noqa: SIM118
    kind = diffusers.StableDiffusionXLPipeline if is_xl else diffusers.StableDiffusionPipeline
    # diffusers takes a checkpoint's configs from a folder beside it, or from what was downloaded once
    beside = model.with_suffix("")
    config = {"config": str(beside)} if (beside / "model_index.json").is_file() else {}
    return kind.from_single_file(str(model), local_files_only=True, **config)


def _family_of(pipeline: Any) -> Family:
    unet, encoder = getattr(pipeline, "unet", None), getattr(pipeline, "text_encoder", None)
    kind = type(pipeline).__name__
    if unet is None or encoder is None or not hasattr(unet, "down_blocks"):
        raise HostError(f"{kind} is not a Stable Diffusion 1.x, 2.x or XL pipeline; load one of those")
    if unet.config.in_channels != 4:
        raise HostError(
            f"{kind} takes {unet.config.in_channels} channels (inpainting?); load a text-to-image checkpoint"
        )
    if getattr(pipeline, "text_encoder_2", None) is not None:
        return SDXL
    return SD2 if encoder.config.hidden_size == 1024 else SD1


def _best_dtype(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _blocks_of(trunks: Iterable[nn.Module]) -> list[nn.Module]:
    return [block for trunk in trunks for block in trunk.modules() if type(block).__name__ in _BLOCKS]


def _layer(encoder: Any, output: Any, clip_skip: int) -> Tensor:
    if clip_skip == 1:
        return output.last_hidden_state
    # transformers 5.6 dropped the inner text_model
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    return norm(output.hidden_states[-clip_skip])


@contextmanager
def _lent(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """The module in eval mode, frozen, on the device and in the dtype; then with its own tensors and flags again."""
    tensors = [*module.parameters(), *(each for each in module.buffers() if each.is_floating_point())]
    before = [(each, each.data, each.requires_grad) for each in tensors]
    modes = [(each, each.training) for each in module.modules()]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(device, dtype)
            tensor.requires_grad_(False)
        module.eval()
        for buffer in module.buffers():  # position ids and the like
            if not buffer.is_floating_point() and buffer.device != device:
                before.append((buffer, buffer.data, False))
                buffer.data = buffer.data.to(device)
        yield
    finally:
        for tensor, data, requires_grad in before:
            tensor.data = data
            tensor.requires_grad_(requires_grad)
        for each, training in modes:
            each.training = training


@contextmanager
def _scheduler_set_aside(pipeline: Any) -> Iterator[None]:
    """Sampling moves a scheduler's counters; a copy takes the blame."""
    own = pipeline.scheduler
    pipeline.scheduler = type(own).from_config(own.config)
    try:
        yield
    finally:
        pipeline.scheduler = own


@contextmanager
def _quiet(pipeline: Any) -> Iterator[None]:
    before = getattr(pipeline, "_progress_bar_config", None)
    pipeline.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        if before is None:
            del pipeline._progress_bar_config
        else:
            pipeline._progress_bar_config = before


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise HostError("SDXL needs pooled text and picture sizes; this is a bug of LazyLoRA, please report it")
    return tensor


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
