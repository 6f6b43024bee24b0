"""Make the tiny world's model from nothing: python -m trainer_core.demo.make_world --state some/folder

Trains the VAE, then UNet and text encoder, then the decoder a little more, each for a number of seconds on the clock,
and writes a Stable Diffusion folder in diffusers' layout. Stop it at any time: called again with the same --state,
it goes on where it was. `--only pipeline` writes what there is so far."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .autoencoder import sharpen_decoder, train_autoencoder
from .denoiser import build_scheduler, load_averaged, train_denoiser
from .workers import run_workers

STAGES = ("vae", "denoiser", "decoder", "pipeline")
WORLD = Path(__file__).parent / "world"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=Path, required=True, help="folder for training states; keep it between calls")
    parser.add_argument("--out", type=Path, default=WORLD, help="where the Stable Diffusion folder is written")
    parser.add_argument("--only", choices=STAGES, action="append", help="run only these stages, in order")
    parser.add_argument("--workers", type=int, default=2, help="one-thread processes; the cores you can spare")
    parser.add_argument("--vae-seconds", type=float, default=900)
    parser.add_argument("--denoiser-seconds", type=float, default=3600)
    parser.add_argument("--decoder-seconds", type=float, default=300)
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    for stage in options.only or STAGES:
        started = time.monotonic()
        if stage == "vae":
            run_workers(train_autoencoder, options.workers, options.vae_seconds, options.state)
        elif stage == "denoiser":
            run_workers(train_denoiser, options.workers, options.denoiser_seconds, options.state)
        elif stage == "decoder":
            run_workers(sharpen_decoder, options.workers, options.decoder_seconds, options.state)
        else:
            write_pipeline(options.state, options.out)
        print(f"{stage}: {time.monotonic() - started:.0f} s in this call", flush=True)


def write_pipeline(state: Path, out: Path) -> None:
    """Write what was trained in `state` as a StableDiffusionPipeline folder in fp16; files beside it stay."""
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    unet, text_encoder, tokenizer = load_averaged(state)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(state / "vae"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(out)
    _name_as_ever(out / "text_encoder" / "model.safetensors")
    for config in out.glob("*/config.json"):
        _forget_origin(config)
    # newer transformers write tokenizer.json alone, older ones want these two
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(state / "tokenizer" / name, out / "tokenizer" / name)


def _name_as_ever(file: Path) -> None:
    """Put `text_model.` before the names: transformers 5.6 dropped it, reads both, and older ones know only this."""
    tensors = {f"text_model.{name.removeprefix('text_model.')}": each for name, each in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


def _forget_origin(config: Path) -> None:
    """Drop the path that a part was loaded from: it says something of the maker's machine and nothing of the model."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
