"""Every epoch of a run on the tiny world, drawn and measured, the model without a LoRA first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import TrainConfig
from ..hosts.base import SampleRequest, TextOptions
from ..hosts.diffusers import DiffusersHost
from ..networks.network import build_network
from .canvas import SIZE
from .character import CONTROL_PROMPTS, held_out_portraits, test_prompts, training_portraits
from .metrics import EpochScores, held_out_loss, score_epoch

SEEDS = (1, 2)
STEPS, CFG = 20, 4.0


@dataclass(frozen=True)
class Pictures:
    """What one epoch makes of the prompts: `answers` to every test prompt for each seed, and the control prompts."""

    answers: list[Image.Image]
    controls: list[Image.Image]


def judged(
    host: DiffusersHost,
    config: TrainConfig,
    epochs: Mapping[int, Mapping[str, Tensor]],
    seeds: Sequence[int] = SEEDS,
    is_quiet: bool = False,
) -> tuple[dict[int, Pictures], list[EpochScores]]:
    """Every epoch's pictures and scores. epochs: number → a LoRA file's tensors; 0 → {}, the model without a LoRA, must
    be the first: the others' control pictures are compared with its own. seeds: every prompt is drawn once for each."""
    from tqdm import tqdm

    prompts = [prompt for _ in seeds for prompt in test_prompts()]
    pictures: dict[int, Pictures] = {}
    scores: list[EpochScores] = []
    with host.borrowed([], "auto", False):
        for number, tensors in tqdm(epochs.items(), desc="sampling", unit="epoch", disable=is_quiet):
            with _applied(host, config, tensors):
                pictures[number] = _sampled(host, seeds)
                loss = _held_out_loss(host)
            scores.append(
                score_epoch(
                    number,
                    pictures[number].answers,
                    prompts,
                    pictures[number].controls,
                    pictures[0].controls,
                    loss,
                    training_portraits(),
                )
            )
    return pictures, scores


@contextmanager
def _applied(host: DiffusersHost, config: TrainConfig, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The host's model with a LoRA file's adapters on it; none for no tensors."""
    if not tensors:
        yield
        return
    network = build_network(config.network, host.components(), host.family, config.seed, host.device)
    network.load_state_dict(tensors)
    with network.attached(), network.without_randomness():
        yield


def _sampled(host: DiffusersHost, seeds: Sequence[int]) -> Pictures:
    def sample(prompts: list[str], seed: int) -> list[Image.Image]:
        numbered = enumerate(prompts)
        return host.sample_batch([SampleRequest(p, "", SIZE, SIZE, STEPS, CFG, 1000 * seed + n) for n, p in numbered])

    texts = [prompt.text for prompt in test_prompts()]
    return Pictures([p for seed in seeds for p in sample(texts, seed)], sample(list(CONTROL_PROMPTS), 7))


def _held_out_loss(host: DiffusersHost) -> float:
    portraits = held_out_portraits()
    pixels = torch.stack([_pixels(portrait.picture) for portrait in portraits])

    def predict(x_t: Tensor, t: Tensor, captions: Sequence[str]) -> Tensor:
        return host.predict(x_t, t, host.encode_texts(captions, TextOptions()))

    captions = [portrait.caption for portrait in portraits]
    return held_out_loss(predict, host.encode_images(pixels), captions, host.process.alphas_cumprod)


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
