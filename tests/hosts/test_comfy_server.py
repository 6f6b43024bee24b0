"""The harness itself: thin checkpoints are recognised and make pictures that depend on prompt and seed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.hosts.comfy_server import ComfyClient, ComfyError

pytestmark = [pytest.mark.comfy, pytest.mark.slow]


def picture_graph(checkpoint: str, prompt: str, seed: int = 1, side: int = 64, layers: int = 3) -> dict:
    """Checkpoint → sampler → picture at node "9"."""
    return {
        "1": {"class_type": "TinyCheckpointLoader", "inputs": {"ckpt_name": checkpoint, "text_layers": layers}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": prompt}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": side, "height": side, "batch_size": 1}},
        "5": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]},
                **{"seed": seed, "steps": 2, "cfg": 4.0, "denoise": 1.0},
                **{"sampler_name": "euler", "scheduler": "normal"},
            },
        },
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "test"}},
    }


@pytest.mark.parametrize("checkpoint", ["sd1_tiny.safetensors", "sdxl_tiny.safetensors"])
def test_a_picture_depends_on_prompt_and_seed(comfy: ComfyClient, checkpoint: str):
    def picture(prompt: str, seed: int) -> np.ndarray:
        return np.asarray(comfy.images(comfy.run(picture_graph(checkpoint, prompt, seed)), "9")[0], dtype=float)

    cat = picture("a cat", 1)
    assert np.abs(cat - picture("a red car, night", 1)).mean() > 1
    assert np.abs(cat - picture("a cat", 2)).mean() > 1


def test_the_stock_loader_takes_the_checkpoint_with_all_layers(comfy: ComfyClient):
    graph = picture_graph("sd1.safetensors", "a cat")
    graph["1"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd1.safetensors"}}
    assert comfy.images(comfy.run(graph), "9")[0].size == (64, 64)


def test_an_unknown_node_is_refused_in_comfyuis_own_words(comfy: ComfyClient):
    with pytest.raises(ComfyError, match="NoSuchNode"):
        comfy.run({"1": {"class_type": "NoSuchNode", "inputs": {}}})
