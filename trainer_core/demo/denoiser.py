"""The tiny world's UNet, trained with its text encoder from nothing: v-prediction on a zero-terminal-SNR schedule."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .autoencoder import to_pixels
from .budget import Average, Budget, load_state, save_state, warm_cosine
from .language import MAX_TOKENS, WIDTH, build_text_encoder, build_tokenizer
from .workers import average_parameters, follow_first
from .world import Scene, describe, draw_scene, random_scene, vocabulary

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTokenizer

BATCH = 16
LEARNING_RATE = 1.0e-3
PICTURES_PER_WORKER = 14_000
EMPTY_CAPTION_SHARE = 0.1
SAVE_EVERY_SECONDS = 120
# the workers walk alone for so many steps, then meet in the middle
STEPS_ALONE = 8
# of 1: times lean towards noise, where a picture's colours and kinds are decided (Esser et al. 2024, arXiv:2403.03206)
TIME_SHIFT = 1.7
FIGURE_WEIGHT = 3.0
# this share of the time sees only one figure in the middle of a plain ground: a caption then says nearly every pixel,
# and the names of the kinds, the last words to be heard, are heard many times sooner
EASY_SHARE = 0.15


def build_denoiser() -> UNet2DConditionModel:
    """An untrained UNet for 16 x 16 x 4 latents; attention only at 8 x 8 and 4 x 4, where it is cheap."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 80, 112),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    ).to(memory_format=torch.channels_last)


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas, rescaled to end in pure noise (Lin et al. 2023, arXiv:2305.08891)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def train_denoiser(rank: int, seconds: float, folder: Path) -> None:
    """Train UNet and text encoder for `seconds` on folder/vae's latents, going on from an interrupted training.

    One of several workers. The averaged weights are written to folder/denoiser.pt all along."""
    tokenizer = build_tokenizer(vocabulary(), folder / f"tokenizer{rank}")
    scenes, latents = _scenes_and_latents(rank, folder)
    torch.manual_seed(0)
    unet, text_encoder = build_denoiser(), build_text_encoder(tokenizer)
    trained = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    average = Average(trained, decay=0.98)
    alphas = build_scheduler().alphas_cumprod
    everything = range(len(scenes))
    easy = [i for i in everything if is_easy(scenes[i])]
    state_path = folder / "denoiser.pt"
    step, spent, seen_loss = 0, 0.0, 1.0
    if state := load_state(state_path):
        unet.load_state_dict(state["unet"])
        text_encoder.load_state_dict(state["text_encoder"])
        optimizer.load_state_dict(state["optimizer"])
        average.restore(state["average"])
        step, spent = state["step"], state["spent"]
    budget = Budget(seconds, spent)
    saved_at = spent
    while (progress := follow_first(budget.progress)) < 1:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * warm_cosine(progress)
        for _ in range(STEPS_ALONE):
            rng = random.Random(f"denoiser {rank} {step}")
            torch.manual_seed(rng.randrange(1 << 40))
            chosen = rng.sample(easy if progress < EASY_SHARE else everything, BATCH)
            captions = ["" if rng.random() < EMPTY_CAPTION_SHARE else describe(scenes[i], rng) for i in chosen]
            context = text_encoder(tokenize(tokenizer, captions))[0]
            # the last third is plain: a weight that knows where the figure is would leave it a little too large
            weight = figure_weight([scenes[i] for i in chosen]) if progress < 0.65 else torch.ones(())
            loss = velocity_loss(unet, latents[chosen].float(), context, alphas, weight)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            step += 1
            seen_loss += (loss.item() - seen_loss) * 0.01
        average_parameters(trained)
        average.update()
        if rank == 0:
            print(f"denoiser {budget.spent:6.0f} s  step {step}  loss {seen_loss:.4f}", flush=True)
        if rank == 0 and budget.spent - saved_at > SAVE_EVERY_SECONDS:
            saved_at = budget.spent
            _save(state_path, unet, text_encoder, optimizer, average, step, budget)
    if rank == 0:
        _save(state_path, unet, text_encoder, optimizer, average, step, budget)


def velocity_loss(
    unet: UNet2DConditionModel, latents: Tensor, context: Tensor, alphas: Tensor, weight: Tensor
) -> Tensor:
    """Mean square error of v (Salimans & Ho 2022). latents: [B,4,16,16], scaled; weight broadcasts over them."""
    # one time from each of B equal slices: the same distribution, less noise in the gradient
    u = (torch.arange(len(latents)) + torch.rand(len(latents))) / len(latents)
    t = (TIME_SHIFT * u / (1 + (TIME_SHIFT - 1) * u) * len(alphas)).long().clamp_max(len(alphas) - 1)
    signal = alphas[t].sqrt().view(-1, 1, 1, 1)
    spread = (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
    noise = torch.randn_like(latents)
    x_t = (signal * latents + spread * noise).contiguous(memory_format=torch.channels_last)
    error = unet(x_t, t, context).sample - (signal * noise - spread * latents)
    return (weight * error.square()).mean()


def figure_weight(scenes: Sequence[Scene]) -> Tensor:
    """[B,1,16,16], mean 1: latents under a figure count FIGURE_WEIGHT times, or backgrounds would drown its caption."""
    centres = (torch.arange(16) + 0.5) * 4
    weight = torch.ones(len(scenes), 1, 16, 16)
    for plane, scene in zip(weight[:, 0], scenes):
        for figure in scene.figures:
            distance = (centres[:, None] - figure.y) ** 2 + (centres[None, :] - figure.x) ** 2
            plane[distance < (1.1 * figure.radius) ** 2] = FIGURE_WEIGHT
    return weight / weight.mean()


def is_easy(scene: Scene) -> bool:
    """Whether there is one figure of plain size in the middle of a plain ground."""
    first = scene.figures[0]
    return len(scene.figures) == 1 and scene.backdrop.kind == "plain" and not first.size and not first.position


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], length: int = MAX_TOKENS) -> Tensor:
    """Token ids, [B, length], padded with the end token."""
    return tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def load_averaged(folder: Path) -> tuple[UNet2DConditionModel, nn.Module, CLIPTokenizer]:
    """UNet, text encoder and tokenizer as trained so far, with the averaged weights. Raises FileNotFoundError."""
    state = load_state(folder / "denoiser.pt")
    if state is None:
        raise FileNotFoundError(f"{folder / 'denoiser.pt'}: no denoiser was trained here yet")
    tokenizer = build_tokenizer(vocabulary(), folder / "tokenizer")
    unet, text_encoder = build_denoiser(), build_text_encoder(tokenizer)
    with torch.no_grad():
        for parameter, value in zip(
            itertools.chain(unet.parameters(), text_encoder.parameters()), state["average"]["values"], strict=True
        ):
            parameter.copy_(value)
    return unet, text_encoder, tokenizer


def _scenes_and_latents(rank: int, folder: Path) -> tuple[list[Scene], Tensor]:
    """This worker's own scenes, and their scaled latents [N,4,16,16] in fp16, encoded once and kept in a file."""
    from diffusers import AutoencoderKL

    rng = random.Random(f"scenes {rank}")
    scenes = [random_scene(rng) for _ in range(PICTURES_PER_WORKER)]
    path = folder / f"latents{rank}.pt"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(folder / "vae").to(memory_format=torch.channels_last)
        parts = [_encode(vae, scenes[i : i + 50]) for i in range(0, len(scenes), 50)]
        torch.save(torch.cat(parts), path)
    return scenes, torch.load(path, weights_only=True)


@torch.no_grad()
def _encode(vae: AutoencoderKL, scenes: list[Scene]) -> Tensor:
    pixels = to_pixels([draw_scene(scene) for scene in scenes])
    return (vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor).half().contiguous()


def _save(
    path: Path,
    unet: UNet2DConditionModel,
    text_encoder: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    step: int,
    budget: Budget,
) -> None:
    save_state(
        path,
        {
            "unet": unet.state_dict(),
            "text_encoder": text_encoder.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average.state(),
            "step": step,
            "spent": budget.spent,
        },
    )
