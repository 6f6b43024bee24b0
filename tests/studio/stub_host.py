"""The smallest host on which a run is a run: one attention layer that predicts noise, in no time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from trainer_core.diffusion.cond import Cond
from trainer_core.diffusion.process import Process, scaled_linear_alphas
from trainer_core.errors import SamplingStopped
from trainer_core.families.sd1 import SD1
from trainer_core.hosts.base import SampleRequest, TextOptions, never


class StubHost:
    """A Host by itself. seed: other ones are other models. `is_borrowed` says whether a run has it."""

    name, family, model_name, clip_skip = "Stub 1.0", SD1, "stub", 1
    device = torch.device("cpu")

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        layers = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("to_q", "to_k", "to_v")})
        self._attention = layers
        block = nn.ModuleDict({"transformer_blocks": nn.ModuleList([nn.ModuleDict({"attn1": layers})])})
        level = nn.ModuleDict({"attentions": nn.ModuleList([block])})
        self._unet = nn.ModuleDict({"down_blocks": nn.ModuleList([level])})
        self._unet.requires_grad_(False)
        self.process = Process("epsilon", scaled_linear_alphas())
        self.is_borrowed = False
        self.predictions = 0
        self.breaks_at: int | None = None

    def fingerprint(self) -> str:
        weights = b"".join(each.numpy().tobytes() for each in self._unet.state_dict().values())
        return hashlib.sha256(weights).hexdigest()

    def vae_fingerprint(self) -> str:
        return "stub"

    def components(self) -> Mapping[str, nn.Module]:
        return {"unet": self._unet}

    @contextmanager
    def borrowed(self, components: Sequence[str], precision: str, checkpointing: bool) -> Iterator[torch.dtype]:
        self.is_borrowed = True
        try:
            yield torch.float32
        finally:
            self.is_borrowed = False

    def weight_bytes(self) -> int:
        return sum(each.nbytes for each in self._unet.state_dict().values())

    def encode_images(self, pixels: Tensor) -> Tensor:
        small = functional.avg_pool2d(pixels, 8)
        return torch.cat([small, small.mean(1, keepdim=True)], dim=1)

    def encode_texts(self, captions: Sequence[str], options: TextOptions) -> Cond:
        return Cond(torch.stack([torch.full((77, 4), len(each) / 100) for each in captions]))

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        self.predictions += 1
        if self.predictions == self.breaks_at:
            raise ValueError("the stub breaks\nhere, and says so at length")
        places = x_t.movedim(1, -1) + cond.tokens.mean(1)[:, None, None, :]
        return sum(layer(places) for layer in self._attention.values()).movedim(-1, 1)

    def sample(self, request: SampleRequest, is_cancelled: Callable[[], bool] = never) -> Image.Image:
        if is_cancelled():
            raise SamplingStopped("stopped")
        noise, empty = torch.ones(1, 4, 1, 1), Cond(torch.zeros(1, 77, 4))
        red = torch.sigmoid(self.predict(noise, torch.zeros(1), empty).mean())
        return Image.new("RGB", (16, 16), (round(255 * red.item()), request.seed % 256, 0))
