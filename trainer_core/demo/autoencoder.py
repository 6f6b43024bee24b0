"""The tiny world's VAE: 64 x 64 pictures to 16 x 16 x 4 latents, trained on the world and on doodles."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from .budget import Average, Budget, load_state, save_state, warm_cosine
from .doodles import draw_doodle
from .workers import average_gradients, follow_first
from .world import draw_scene, random_scene

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

BATCH = 6
LEARNING_RATE = 2.5e-3
DOODLE_SHARE = 0.4
KL_WEIGHT = 2e-4
SAVE_EVERY_SECONDS = 60


def build_autoencoder() -> AutoencoderKL:
    """An untrained AutoencoderKL whose start is close to "average down, copy up", which trains far sooner."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        # more groups would divide each pair of channels by its own brightness and so lose absolute colour
        norm_num_groups=1,
        sample_size=64,
    )
    _start_near_identity(vae)
    return vae.to(memory_format=torch.channels_last)


def train_autoencoder(rank: int, seconds: float, folder: Path) -> None:
    """Train for `seconds` (an interrupted training goes on) and save to folder/vae. One of several workers."""
    vae = build_autoencoder()
    _train(rank, vae, list(vae.parameters()), seconds, folder / "vae.pt", LEARNING_RATE)
    if rank == 0:
        set_scaling_factor(vae)
        vae.save_pretrained(folder / "vae")


def sharpen_decoder(rank: int, seconds: float, folder: Path) -> None:
    """Train only the decoder of folder/vae for `seconds` and save it back; latents made before stay valid."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder / "vae").to(memory_format=torch.channels_last)
    for parameter in (*vae.encoder.parameters(), *vae.quant_conv.parameters()):
        parameter.requires_grad_(False)
    trained = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    _train(rank, vae, trained, seconds, folder / "decoder.pt", 0.4 * LEARNING_RATE)
    if rank == 0:
        vae.save_pretrained(folder / "vae")


def _train(
    rank: int, vae: AutoencoderKL, trained: list[nn.Parameter], seconds: float, state_path: Path, peak_lr: float
) -> None:
    torch.manual_seed(rank)
    optimizer = torch.optim.AdamW(trained, lr=peak_lr, betas=(0.9, 0.99), weight_decay=1e-3)
    average = Average(trained, decay=0.998)
    step, spent = 0, 0.0
    if state := load_state(state_path):
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        average.restore(state["average"])
        step, spent = state["step"], state["spent"]
    budget = Budget(seconds, spent)
    saved_at = spent
    while (progress := follow_first(budget.progress)) < 1:
        optimizer.param_groups[0]["lr"] = peak_lr * warm_cosine(progress)
        pixels = draw_pixels(random.Random(f"vae {state_path.stem} {step} {rank}"), BATCH)
        # edges matter once there is a picture for them to be in
        loss = reconstruction_loss(vae, pixels, edge_weight=0.2 if progress < 0.3 else 0.7)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update()
        step += 1
        if rank == 0 and step % 50 == 0:
            print(f"{state_path.stem} {budget.spent:6.0f} s  step {step}  loss {loss.item():.4f}", flush=True)
        if rank == 0 and budget.spent - saved_at > SAVE_EVERY_SECONDS:
            saved_at = budget.spent
            state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "average": average.state()}
            save_state(state_path, {**state, "step": step, "spent": budget.spent})
    average.copy_to(trained)


def reconstruction_loss(vae: AutoencoderKL, pixels: Tensor, edge_weight: float) -> Tensor:
    """L1 + 2 MSE + edges (L1 of the differences of neighbours) + a whisper of KL. pixels: [B,3,64,64] in [-1,1]."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(pixels).latent_dist
        restored = vae.decode(posterior.sample()).sample.float()
    error = restored - pixels
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    return error.abs().mean() + 2 * error.square().mean() + edge_weight * edges + KL_WEIGHT * kl


def draw_pixels(rng: random.Random, count: int, doodle_share: float = DOODLE_SHARE) -> Tensor:
    """Fresh pictures, [count,3,64,64] in [-1,1], the given share of them doodles."""
    pictures = [
        draw_doodle(rng) if rng.random() < doodle_share else draw_scene(random_scene(rng)) for _ in range(count)
    ]
    return to_pixels(pictures)


def to_pixels(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures of one size as [B,3,H,W] in [-1,1]."""
    stack = np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])
    pixels = torch.from_numpy(stack).permute(0, 3, 1, 2) / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def psnr(vae: AutoencoderKL, pixels: Tensor) -> float:
    """Peak signal-to-noise ratio of a round trip in dB, the mean over pictures."""
    restored = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    error = F.mse_loss(restored, pixels, reduction="none").mean(dim=(1, 2, 3)).clamp_min(1e-6)
    return (10 * torch.log10(4 / error)).mean().item()


@torch.no_grad()
def set_scaling_factor(vae: AutoencoderKL) -> None:
    """Write 1 / (standard deviation of the world's latents) into the config, as Stable Diffusion does."""
    latents = vae.encode(draw_pixels(random.Random("scaling"), 512, doodle_share=0.0)).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))


@torch.no_grad()
def _start_near_identity(vae: AutoencoderKL) -> None:
    for name, module in vae.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if "resnets" in name and name.endswith("conv2"):
            module.weight.mul_(0.1)
        elif "downsamplers" in name:
            _copy_channels(module, taps=((0, 0), (0, 1), (1, 0), (1, 1)))
        elif "upsamplers" in name:
            _copy_channels(module, taps=((1, 1),))
        elif name.endswith(("conv_out", "quant_conv")):
            module.weight.mul_(1.7)
    # log-variance starts low, or sampled latents drown in noise before they mean anything
    vae.quant_conv.bias[vae.config.latent_channels :] = -6.0
    vae.quant_conv.weight[vae.config.latent_channels :] *= 0.1


def _copy_channels(conv: nn.Conv2d, taps: tuple[tuple[int, int], ...]) -> None:
    conv.weight.mul_(0.1)
    if conv.bias is not None:
        conv.bias.zero_()
    for channel in range(min(conv.in_channels, conv.out_channels)):
        for row, column in taps:
            conv.weight[channel, channel, row, column] += 1 / len(taps)
