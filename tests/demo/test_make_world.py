import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from trainer_core.demo.backdrops import Backdrop
from trainer_core.demo.make_world import WORLD
from trainer_core.demo.obedience import backdrop_obedience

pytestmark = pytest.mark.skipif(
    not (WORLD / "model_index.json").exists(), reason="the weights are not in this checkout"
)


def test_model_is_small_enough_for_the_repository():
    assert sum(path.stat().st_size for path in WORLD.rglob("*") if path.is_file()) <= 12_000_000


def test_model_has_stable_diffusions_layout():
    index = json.loads((WORLD / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "StableDiffusionPipeline"
    scheduler = json.loads((WORLD / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["rescale_betas_zero_snr"]
    assert scheduler["timestep_spacing"] == "trailing"
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        assert (WORLD / "tokenizer" / name).exists()


def test_model_says_nothing_of_the_machine_it_was_made_on():
    for config in WORLD.glob("*/config.json"):
        assert "_name_or_path" not in json.loads(config.read_text(encoding="utf-8")), config


def test_text_encoder_s_tensors_have_the_names_that_every_transformers_reads():
    # before 5.6 any other name was left out with a warning, and the encoder stayed random
    names = read_tensor_names(WORLD / "text_encoder" / "model.safetensors")
    assert names and all(name.startswith("text_model.") for name in names)


def read_tensor_names(file):
    with safe_open(file, "pt") as tensors:
        return list(tensors.keys())


@pytest.mark.slow
def test_model_draws_the_background_that_the_prompt_asks_for():
    diffusers = pytest.importorskip("diffusers")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(WORLD, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    colours = ("red", "white", "blue", "green")
    pictures = pipeline(
        [f"a black star on a {colour} background" for colour in colours],
        num_inference_steps=12,
        guidance_scale=4.0,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(0),
    ).images
    for colour, picture in zip(colours, pictures):
        frame = np.ones((64, 64))
        frame[4:60, 4:60] = 0
        assert backdrop_obedience(picture, Backdrop("plain", (colour,)), 1 - frame) > 0.9, colour
