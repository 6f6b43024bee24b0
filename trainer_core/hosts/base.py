"""What a host must offer so that a LoRA can be trained on the model it has loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor, nn

    from ..diffusion.cond import Cond
    from ..diffusion.process import Process
    from ..families.base import Family


@dataclass(frozen=True)
class TextOptions:
    """How captions are encoded.

    chunks: 1 to 3 chunks of 75 tokens. clip_skip: 1 is the last layer (the UIs' counting); SDXL ignores it. weighted:
    brackets are weights, as in (word:1.2), and not letters."""

    chunks: int = 1
    clip_skip: int = 1
    weighted: bool = False


@dataclass(frozen=True)
class SampleRequest:
    """One picture to sample: width and height in pixels, cfg ≥ 1, the seed makes the picture; texts are encoded as in
    training."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    cfg: float
    seed: int
    text: TextOptions = TextOptions()


def never() -> bool:
    """The answer of a run that nobody can cancel."""
    return False


class Host(Protocol):
    """A loaded model that can be borrowed for training.

    Everything below `borrowed` may only be called inside `with host.borrowed(...)`; the properties above it are cheap
    and read nothing but the model's description."""

    @property
    def name(self) -> str:
        """Which host, e.g. "ComfyUI 0.3.64": kept in the files' metadata."""
        ...

    @property
    def family(self) -> Family:
        """The model family; raises HostError for one that cannot be trained."""
        ...

    @property
    def process(self) -> Process:
        """The loaded model's own diffusion process."""
        ...

    @property
    def device(self) -> torch.device:
        """Where training computes."""
        ...

    @property
    def model_name(self) -> str:
        """The checkpoint's name where the host knows it, else ""."""
        ...

    @property
    def clip_skip(self) -> int:
        """The text encoder's layer that the host's own prompts are read from: 1 is the usual one (see TextOptions)."""
        ...

    def fingerprint(self) -> str:
        """Hex digest that tells this base model (UNet and text encoders) from others."""
        ...

    def vae_fingerprint(self) -> str:
        """Hex digest that tells this VAE from others; keys the latent cache."""
        ...

    def components(self) -> Mapping[str, nn.Module]:
        """The adaptable trunks: "unet", and "te1" (and "te2" on SDXL). Module paths inside them are the host's own;
        `Family` translates them."""
        ...

    def borrowed(
        self, components: Sequence[str], precision: str, checkpointing: bool
    ) -> AbstractContextManager[torch.dtype]:
        """Take the model for training and give the compute dtype; on exit everything is as it was, whatever happened.

        components: the trunks that will be trained. precision: one of config.PRECISIONS. checkpointing: recompute
        blocks in backward. Raises HostError for what cannot be trained (quantised weights, a patched model …)."""
        ...

    def weight_bytes(self) -> int:
        """Bytes of the base model's weights that are on the device while a step is computed, copies in the compute
        dtype included."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] → scaled latents [B, C, H/8, W/8] fp32, the posterior's mean."""
        ...

    def encode_texts(self, captions: Sequence[str], options: TextOptions) -> Cond:
        """Captions → conditioning, differentiable when a text encoder was borrowed for training."""
        ...

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """The network's raw output for x_t [B, C, h, w] at timesteps t [B]; shaped like x_t, differentiable."""
        ...

    def sample(self, request: SampleRequest, is_cancelled: Callable[[], bool] = never) -> Image:
        """A picture by the host's own sampler, with whatever adapters are attached.

        is_cancelled: asked after each of the sampler's steps. Raises SamplingStopped when it says yes."""
        ...
