"""Steps per second of our loop against a plain diffusers + peft loop, on the same weights, in turns in one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..config import TrainConfig
from ..events import Stepped
from ..hosts.diffusers import DiffusersHost
from ..settings import from_json
from ..train import train

RANK = 16
LEARNING_RATES = {"AdamW": 1e-4, "Prodigy": 1.0, "DAdaptAdam": 1.0}
_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
_WARM_UP = 2
_PIXELS_PER_LATENT = 4  # of the tiny world's VAE, which encodes our loop's pictures


@dataclass(frozen=True)
class Subject:
    """What is trained on: a UNet in SD 1.5's layout (all of its blocks, `width` channels at the top instead of 320).

    latent: side of the latents. batch_size: pictures per step. device: "cuda" or "cpu"."""

    width: int = 64
    latent: int = 16
    batch_size: int = 1
    device: str = "cpu"


def measure_training_steps(subject: Subject, rounds: int = 5, steps: int = 4) -> list[dict[str, Any]]:
    """One row per loop and optimizer: median, fastest and slowest seconds a step, and how long the plain loop takes.

    time_ratio: this loop's time / the plain loop's with the same optimizer; below 1 is faster.

    rounds: turns that each contender takes, of `steps` steps each; two steps of each are not counted. Every contender
    trains LoRAs of the same rank on the same modules of the same frozen weights, from latents and captions that are
    cached already, so that only the loop and the optimizer differ."""
    pipeline = _pipeline(subject)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        contenders: dict[tuple[str, str], Generator[None, None, None]] = {}
        for optimizer in LEARNING_RATES:
            for loop, make in (("ours", _our_steps), ("plain", _plain_steps)):
                stream = make(pipeline, subject, optimizer, Path(folder))
                closing.callback(stream.close)
                contenders[loop, optimizer] = stream
        timings = _timed_in_turns(contenders, rounds, steps, subject.device)
    return _rows(timings)


def _timed_in_turns(
    contenders: dict[tuple[str, str], Generator[None, None, None]], rounds: int, steps: int, device: str
) -> dict[tuple[str, str], list[float]]:
    timings: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for stream in contenders.values():
        _take(stream, _WARM_UP, device)
    for _ in range(rounds):
        for key, stream in contenders.items():
            timings[key].append(_take(stream, steps, device) / steps)
    return timings


def _take(stream: Generator[None, None, None], steps: int, device: str) -> float:
    _finish(device)
    started = time.perf_counter()
    for _ in range(steps):
        next(stream)
    _finish(device)
    return time.perf_counter() - started


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _rows(timings: dict[tuple[str, str], list[float]]) -> list[dict[str, Any]]:
    yardstick = timings["plain", "AdamW"]
    return [
        {
            "loop": loop,
            "optimizer": optimizer,
            "seconds_per_step": round(statistics.median(seconds), 4),
            "fastest": round(min(seconds), 4),
            "slowest": round(max(seconds), 4),
            "steps_per_second": round(1 / statistics.median(seconds), 3),
            # taken round by round, so that a machine that slows down midway slows both
            "time_ratio": _ratio(seconds, timings["plain", optimizer]),
            "time_ratio_to_plain_adamw": _ratio(seconds, yardstick),
        }
        for (loop, optimizer), seconds in timings.items()
    ]


def _ratio(these: list[float], those: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(these, those, strict=True)), 3)


def _our_steps(pipeline: Any, subject: Subject, optimizer: str, folder: Path) -> Generator[None, None, None]:
    # a UNet of its own, as every contender's adapters stay on theirs while the others take their turns
    parts = {**pipeline.components, "unet": _sharing_weights(pipeline.unet)}
    host = DiffusersHost(type(pipeline)(**parts, requires_safety_checker=False), subject.device)
    config = from_json(
        TrainConfig,
        {
            "output_name": f"bench-{optimizer}",
            "output_dir": str(folder),
            "max_train_epochs": 1000,
            "save_every_n_epochs": 1000,
            "dataset": {
                "folder": str(_pictures(folder, _PIXELS_PER_LATENT * subject.latent)),
                "resolution": _PIXELS_PER_LATENT * subject.latent,
                "batch_size": subject.batch_size,
            },
            "network": {"rank": RANK, "alpha": RANK, "train_text_encoder": False},
            "optimizer": {"optimizer": optimizer, "learning_rate": LEARNING_RATES[optimizer]},
        },
    )
    for event in train(config, host):
        if isinstance(event, Stepped):
            yield


def _plain_steps(pipeline: Any, subject: Subject, optimizer: str, folder: Path) -> Generator[None, None, None]:
    """What people write by hand with diffusers, peft and the packages' optimizers; autocast on CUDA."""
    from peft import LoraConfig, inject_adapter_in_model

    unet = _sharing_weights(pipeline.unet).to(subject.device).requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=_TARGETS), unet)
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    stepper = _package_optimizer(optimizer, trained)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, 10_000)
    alphas = pipeline.scheduler.alphas_cumprod.to(subject.device)
    latents = torch.randn(8, 4, subject.latent, subject.latent, device=subject.device)
    captions = torch.randn(8, 77, pipeline.unet.config.cross_attention_dim, device=subject.device)
    unet.train()
    while True:
        rows = torch.randint(0, 8, (subject.batch_size,), device=subject.device)
        clean = latents[rows]
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (subject.batch_size,), device=subject.device)
        alpha = alphas[t].view(-1, 1, 1, 1)
        with torch.autocast(subject.device, torch.bfloat16, enabled=subject.device != "cpu"):
            predicted = unet(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, t, captions[rows]).sample
        loss = nn.functional.mse_loss(predicted.float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        stepper.step()
        schedule.step()
        stepper.zero_grad()
        yield


def _package_optimizer(name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if name == "AdamW":
        return torch.optim.AdamW(parameters, lr=LEARNING_RATES[name])
    makers: dict[str, Callable[[], Any]] = {"Prodigy": _prodigy, "DAdaptAdam": _dadapt_adam}
    return makers[name]()(parameters, lr=LEARNING_RATES[name])


def _prodigy() -> Any:
    from prodigyopt import Prodigy

    return Prodigy


def _dadapt_adam() -> Any:
    from dadaptation import DAdaptAdam

    return DAdaptAdam


def _sharing_weights(unet: Any) -> Any:
    with torch.device("meta"):
        twin = type(unet).from_config(unet.config)
    twin.load_state_dict(unet.state_dict(), assign=True)
    return twin


def _pipeline(subject: Subject) -> Any:
    """SD 1.5's UNet in width/320 of its size, with the tiny world's other parts; weights are random."""
    import diffusers

    from ..demo.run import WORLD

    torch.manual_seed(0)
    world = diffusers.StableDiffusionPipeline.from_pretrained(WORLD, local_files_only=True)
    width = subject.width
    unet = diffusers.UNet2DConditionModel(
        sample_size=subject.latent,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        cross_attention_dim=world.text_encoder.config.hidden_size,
        attention_head_dim=8,
    )
    parts = {**world.components, "unet": unet}
    parts["scheduler"] = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
    )
    return diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)


def _pictures(folder: Path, side: int) -> Path:
    """Eight pictures of noise; what they show does not matter to the clock."""
    pictures = folder / f"pictures-{side}"
    pictures.mkdir(exist_ok=True)
    dice = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(dice.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text("a circle")
    return pictures
