"""Import Recipe in a real ComfyUI: the report, the wires, and a training that does what the recipe says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hosts.comfy_server import ComfyClient, ComfyError

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

GUI = """{ // shared by a friend
  "LoRA_type": "Kohya LoCon", "network_dim": "4", "network_alpha": 2, "conv_dim": 2, "conv_alpha": 1,
  "optimizer": "AdamW", "learning_rate": 0.002, "lr_scheduler": "constant", "lr_warmup": 0,
  "max_resolution": "64,64", "train_batch_size": 2, "epoch": 1, "max_train_epochs": "1", "min_snr_gamma": 5,
  "output_dir": "/somewhere/else", "output_name": "theirs", "seed": "7", "huggingface_token": "hunter2", "made_up": 1,
}"""


@pytest.fixture(scope="session")
def two_pictures(comfy_base: Path) -> str:
    folder = comfy_base / "input" / "two"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        Image.fromarray(np.full((64, 64, 3), 60 + 90 * number, dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a thing")
    return folder.name


def graph(recipe: dict, folder: str, name: str) -> dict:
    """A training whose settings are all a recipe's, in API format."""
    return {
        "loader": {
            "class_type": "TinyCheckpointLoader",
            "inputs": {"ckpt_name": "sd1_tiny.safetensors", "text_layers": 3},
        },
        "recipe": {"class_type": "LazyLoRA_ImportRecipe", "inputs": recipe},
        "dataset": {"class_type": "LazyLoRA_LoadDataset", "inputs": {"folder": folder, "recipe": ["recipe", 0]}},
        "train": {
            "class_type": "LazyLoRA_TrainLoRA",
            "inputs": {
                **{"model": ["loader", 0], "clip": ["loader", 1], "vae": ["loader", 2], "dataset": ["dataset", 0]},
                **{"recipe": ["recipe", 0], "output_name": name, "max_train_epochs": 5},
            },
        },
    }


def settings_of(run: Path) -> dict:
    """What a run was trained with."""
    return json.loads((run / "run.json").read_text(encoding="utf-8"))["settings"]


def test_a_pasted_recipe_is_what_is_trained(comfy: ComfyClient, comfy_base: Path, two_pictures: str):
    finished = comfy.run(graph({"text": GUI, "skip": "seed"}, two_pictures, "from-recipe"), timeout=900)
    run = comfy_base / "output" / "loras" / "from-recipe"
    settings = settings_of(run)
    assert [path.name for path in run.glob("*.safetensors")] == ["from-recipe-000001.safetensors"]
    assert settings["network"]["algo"] == "locon" and settings["network"]["rank"] == 4
    assert settings["network"]["conv_rank"] == 2 and settings["optimizer"]["optimizer"] == "AdamW"
    assert settings["loss"]["min_snr_gamma"] == 5 and settings["max_train_epochs"] == 1
    assert settings["dataset"]["resolution"] == 64 and settings["dataset"]["batch_size"] == 2
    assert settings["seed"] != 7, "it was skipped"
    assert settings["output_name"] == "from-recipe", "names and places are the graph's"
    said = json.dumps(finished.outputs["recipe"])
    assert "made_up" in said and "secret" in said and "hunter2" not in said

    # the LoRA that was made is a recipe, too: the same network and the same optimizer
    again = {"file": "from-recipe/from-recipe-000001.safetensors"}
    comfy.run(graph(again, two_pictures, "from-lora"), timeout=900)
    copied = settings_of(comfy_base / "output" / "loras" / "from-lora")
    assert copied["network"] == settings["network"]
    assert copied["optimizer"]["optimizer"] == "AdamW" and copied["optimizer"]["learning_rate"] == 0.002
    assert copied["loss"] == settings["loss"] and copied["dataset"]["resolution"] == 64


def test_network_and_optimizer_go_their_own_ways(comfy: ComfyClient, comfy_base: Path, two_pictures: str):
    nodes = graph({"preset": "adamw-lazy", "text": '{"network": {"rank": 2, "alpha": 2}}'}, two_pictures, "own-ways")
    del nodes["train"]["inputs"]["recipe"], nodes["dataset"]["inputs"]["recipe"]
    nodes["dataset"]["inputs"]["resolution"] = 64
    nodes["train"]["inputs"] |= {"network": ["recipe", 1], "optimizer": ["recipe", 2], "max_train_epochs": 1}
    comfy.run(nodes, timeout=900)
    settings = settings_of(comfy_base / "output" / "loras" / "own-ways")
    assert settings["network"]["rank"] == 2 and settings["optimizer"]["learning_rate"] == 16e-5
    assert settings["dataset"]["batch_size"] == 1 and settings["max_train_epochs"] == 1


@pytest.mark.parametrize("file", ["../../outside.json", "/etc/passwd", "missing.json"])
def test_nothing_outside_comfyui_s_folders_is_read(comfy: ComfyClient, comfy_base: Path, two_pictures: str, file: str):
    (comfy_base / "outside.json").write_text('{"network_dim": 4, "LoRA_type": "Standard"}')
    with pytest.raises(ComfyError, match="input folder"):
        comfy.run(graph({"file": file}, two_pictures, "never"), timeout=300)
