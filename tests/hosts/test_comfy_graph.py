"""The whole graph in a real ComfyUI: from a checkpoint and a folder of pictures to pictures of every epoch."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.hosts.comfy_server import ComfyClient, ComfyError, Finished
from trainer_core.files.run_folder import RunFolder

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "cat"
CHECKPOINTS = ("sd1_tiny.safetensors", "sdxl_tiny.safetensors")
EPOCHS = 2


@pytest.fixture(scope="session")
def pictures(comfy_base: Path) -> Path:
    """Three pictures with captions in ComfyUI's input folder, twice each: photos where they are at hand."""
    folder = comfy_base / "input" / "cats" / "2_cat"
    folder.mkdir(parents=True, exist_ok=True)
    photos = sorted(PHOTOS.glob("*.jpg"))[:3]
    dice = np.random.default_rng(0)
    for number in range(3):
        if photos:
            shutil.copy(photos[number], folder / f"{number}.jpg")
        else:
            drawn = Image.fromarray(dice.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((96, 96))
            drawn.save(folder / f"{number}.jpg")
        (folder / f"{number}.txt").write_text(f"a cat, picture {number}")
    return folder.parent


@pytest.fixture(autouse=True)
def _with_pictures(pictures: Path) -> None:
    """Every test trains on them."""


class Graph:
    """A graph in API format: nodes by name; ("loader", 1) is the second output of the node called loader."""

    def __init__(self, checkpoint: str = CHECKPOINTS[0]):
        self.nodes: dict[str, dict[str, Any]] = {}
        self.add("loader", "TinyCheckpointLoader", ckpt_name=checkpoint, text_layers=3)

    def add(self, name: str, kind: str, **inputs: Any) -> Graph:
        wired = {key: list(value) if isinstance(value, tuple) else value for key, value in inputs.items()}
        self.nodes[name] = {"class_type": kind, "inputs": wired}
        return self

    def training(self, name: str, optimizer: str = "AdamW", rate: float = 2e-3, **inputs: Any) -> Graph:
        self.add("dataset", "LazyLoRA_LoadDataset", folder="cats", resolution=64, batch_size=2)
        self.add("tags", "LazyLoRA_TagDataset", dataset=("dataset", 0), trigger_word="zwx")
        self.add("network", "LazyLoRA_ConfigureNetwork", rank=4, alpha=4.0)
        self.add("optimizer", "LazyLoRA_ConfigureOptimizer", optimizer=optimizer, learning_rate=rate)
        values = {"model": ("loader", 0), "clip": ("loader", 1), "vae": ("loader", 2), "dataset": ("tags", 0)}
        values |= {"network": ("network", 0), "optimizer": ("optimizer", 0), "max_train_epochs": EPOCHS}
        return self.add("train", "LazyLoRA_TrainLoRA", output_name=name, **{**values, **inputs})

    def picture(self, name: str, model: tuple, clip: tuple, text: Any = "zwx, a cat") -> Graph:
        self.add(f"{name} positive", "CLIPTextEncode", clip=clip, text=text)
        self.add(f"{name} negative", "CLIPTextEncode", clip=clip, text="")
        self.add(f"{name} latent", "EmptyLatentImage", width=64, height=64, batch_size=1)
        self.add(
            *(f"{name} sampler", "KSampler"),
            **{"model": model, "positive": (f"{name} positive", 0), "negative": (f"{name} negative", 0)},
            **{"latent_image": (f"{name} latent", 0), "seed": 1, "steps": 1, "cfg": 4.0, "denoise": 1.0},
            **{"sampler_name": "euler", "scheduler": "normal"},
        )
        self.add(f"{name} decoded", "VAEDecode", samples=(f"{name} sampler", 0), vae=("loader", 2))
        return self.add(name, "SaveImage", images=(f"{name} decoded", 0), filename_prefix="graph")

    def base_picture(self) -> Graph:
        return self.picture("base", ("loader", 0), ("loader", 1))


def pixels(comfy: ComfyClient, finished: Finished, node: str) -> list[np.ndarray]:
    return [np.asarray(each) for each in comfy.images(finished, node)]


def base_pixels(comfy: ComfyClient, checkpoint: str = CHECKPOINTS[0]) -> np.ndarray:
    """The picture of the model as it is in memory, sampled anew."""
    graph = Graph(checkpoint).base_picture()
    # nothing times anything is nothing, but ComfyUI does not know that it has seen it before
    graph.add("again", "LatentMultiply", samples=("base latent", 0), multiplier=time.monotonic() % 10)
    graph.nodes["base sampler"]["inputs"]["latent_image"] = ["again", 0]
    finished = comfy.run(graph.nodes)
    assert "base sampler" not in finished.cached_nodes
    return pixels(comfy, finished, "base")[0]


def trained_steps(folder: Path) -> list[int]:
    """The steps in the order in which they were done, over all sessions."""
    entries = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [entry["step"] for entry in entries if entry["event"] == "step"]


@pytest.fixture
def loras(comfy_base: Path) -> Path:
    return comfy_base / "output" / "loras"


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_from_checkpoint_to_pictures_of_every_epoch(comfy: ComfyClient, loras: Path, checkpoint: str):
    name = f"whole-{checkpoint.split('_')[0]}"
    before = base_pixels(comfy, checkpoint)
    graph = Graph(checkpoint).training(name)
    graph.add(
        *("epochs", "LazyLoRA_LoadEpoch"),
        **{"model": ("loader", 0), "clip": ("loader", 1), "run": ("train", 0), "epochs": "all", "with_base": True},
        prompts="zwx, a cat\na red car",
    )
    graph.picture("pictures", ("epochs", 0), ("epochs", 1), ("epochs", 3))
    graph.add(
        *("grid", "LazyLoRA_EpochGrid"),
        **{"images": ("pictures decoded", 0), "labels": ("epochs", 2), "prompts": ("epochs", 3)},
    )
    graph.add("shown grid", "SaveImage", images=("grid", 0), filename_prefix="grid")
    graph.add("shown chart", "SaveImage", images=("train", 3), filename_prefix="chart")
    graph.picture("newest", ("train", 1), ("train", 2))
    finished = comfy.run(graph.nodes, timeout=900)

    files = sorted(path.name for path in (loras / name).glob("*.safetensors"))
    assert files == [f"{name}-{epoch:06d}.safetensors" for epoch in (1, 2)]
    made = pixels(comfy, finished, "pictures")
    assert len(made) == 6  # base and two epochs, two prompts each
    assert (made[0] == before).all(), "LoadEpoch's base is the model as it was"
    assert not (made[0] == made[2]).all() and not (made[2] == made[4]).all(), "each epoch shows"
    assert (pixels(comfy, finished, "newest")[0] == made[4]).all(), "TrainLoRA's model carries the newest epoch"
    grid = comfy.images(finished, "shown grid")[0]
    assert grid.width > 3 * 64 and grid.height > 2 * 64
    assert np.asarray(comfy.images(finished, "shown chart")[0]).std() > 0
    assert (base_pixels(comfy, checkpoint) == before).all(), "the base model is as it was"


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_the_stock_loader_takes_every_key_and_makes_the_same_picture(comfy: ComfyClient, checkpoint: str):
    name = f"stock-{checkpoint.split('_')[0]}"
    comfy.run(Graph(checkpoint).training(name, max_train_epochs=1).nodes, timeout=900)
    said_before = len(comfy.log.read_text(errors="replace"))
    graph = Graph(checkpoint)
    file = f"{name}/{name}-000001.safetensors"
    graph.add(
        *("stock", "LoraLoader"),
        **{"model": ("loader", 0), "clip": ("loader", 1), "lora_name": file},
        **{"strength_model": 0.8, "strength_clip": 0.6},
    )
    graph.picture("by stock", ("stock", 0), ("stock", 1))
    graph.training(name, max_train_epochs=1)
    chosen = {"epochs": "1", "strength_model": 0.8, "strength_clip": 0.6}
    both = {"model": ("loader", 0), "clip": ("loader", 1), **chosen}
    graph.add("memory", "LazyLoRA_LoadEpoch", run=("train", 0), **both)
    graph.picture("from memory", ("memory", 0), ("memory", 1))
    graph.add("file", "LazyLoRA_LoadEpoch", saved_run=name, **both)
    graph.picture("from file", ("file", 0), ("file", 1))
    graph.base_picture()
    finished = comfy.run(graph.nodes, timeout=900)

    assert "lora key not loaded" not in comfy.log.read_text(errors="replace")[said_before:]
    stock = pixels(comfy, finished, "by stock")[0]
    assert (pixels(comfy, finished, "from memory")[0] == stock).all()
    assert (pixels(comfy, finished, "from file")[0] == stock).all()
    assert not (pixels(comfy, finished, "base")[0] == stock).all()


def test_cancel_keeps_the_state_and_queueing_again_goes_on(comfy: ComfyClient, loras: Path):
    before = base_pixels(comfy)
    length = {"max_train_epochs": 6, "save_precision": "fp32"}
    comfy.run(Graph().training("through", **length, training_comment="uninterrupted").nodes, timeout=900)
    reference = loras / "through"
    reference.rename(loras / "kept")  # else the same settings find the finished run

    graph = Graph().training("through", **length).nodes
    prompt = comfy.queue(graph)
    _wait_for(lambda: (loras / "through" / "through-000002.safetensors").exists(), 300)
    comfy.interrupt()
    stopped = comfy.wait(prompt)
    assert stopped.was_interrupted and not stopped.error
    assert RunFolder(loras / "through", key="").resume_file.exists()
    done = trained_steps(loras / "through")[-1]
    assert 6 <= done <= 8, "the second epoch ends with step 6; the one under way when cancel came may end"
    assert (base_pixels(comfy) == before).all(), "the base model is as it was after cancel"

    comfy.run(graph, timeout=900)
    assert trained_steps(loras / "through") == list(range(1, 19)), "no step was done twice"
    for epoch in range(1, 7):
        resumed = load_file(loras / "through" / f"through-{epoch:06d}.safetensors")
        whole = load_file(loras / "kept" / f"through-{epoch:06d}.safetensors")
        assert resumed.keys() == whole.keys()
        assert all(bool((resumed[key] == whole[key]).all()) for key in whole), f"epoch {epoch} differs"


def test_cancel_in_a_preview_stops_it_and_keeps_the_epoch(comfy: ComfyClient, loras: Path):
    before = base_pixels(comfy)
    long = {"sample_prompts": "a cat\n" * 20, "sample_steps": 150, "max_train_epochs": 1}
    graph = Graph().training("cut", **long).nodes
    prompt = comfy.queue(graph)
    _wait_for(lambda: (loras / "cut" / "cut-000001.safetensors").exists(), 300)
    time.sleep(2)  # into the first preview of many minutes
    comfy.interrupt()
    stopped = comfy.wait(prompt, timeout=60)
    assert stopped.was_interrupted and not stopped.error
    assert RunFolder(loras / "cut", key="").resume_file.exists()
    assert (base_pixels(comfy) == before).all()
    graph["train"]["inputs"]["sample_prompts"] = ""
    comfy.run(graph, timeout=900)
    assert trained_steps(loras / "cut") == [1, 2, 3], "the finished epoch was not trained again"


def test_a_finished_run_is_returned_without_training(comfy: ComfyClient, loras: Path):
    graph = Graph().training("again").nodes
    comfy.run(graph, timeout=900)
    steps = trained_steps(loras / "again")
    assert "train" in comfy.wait(comfy.queue(graph)).cached_nodes
    assert "train" not in run_by_a_forgetful(comfy, graph).cached_nodes
    assert trained_steps(loras / "again") == steps
    assert sorted(path.name for path in loras.iterdir() if path.name.startswith("again")) == ["again"]


def run_by_a_forgetful(comfy: ComfyClient, graph: dict) -> Finished:
    """Run the graph once ComfyUI has forgotten what nodes gave, after which hours would run again; a busy one takes a
    while to get to it."""
    comfy.post("/free", {"unload_models": True, "free_memory": True})
    for _ in range(10):
        time.sleep(2)
        finished = comfy.run(graph, timeout=900)
        if "train" not in finished.cached_nodes:
            break
    return finished


def test_a_caption_that_was_changed_trains_anew(comfy: ComfyClient, pictures: Path, loras: Path):
    graph = Graph().training("changed", max_train_epochs=1).nodes
    comfy.run(graph, timeout=900)
    caption = pictures / "2_cat" / "0.txt"
    kept = caption.read_text()
    caption.write_text("something else entirely")
    try:
        comfy.run(graph, timeout=900)
    finally:
        caption.write_text(kept)
    assert (loras / "changed-2" / "changed-2-000001.safetensors").exists()


def test_previews_and_curves_are_shown_in_the_node(comfy: ComfyClient):
    graph = Graph().training(
        *("previews", "Prodigy", 1.0),
        **{"max_train_epochs": 1, "sample_prompts": "zwx, a cat\na car", "sample_steps": 1},
    )
    shown = comfy.run(graph.nodes, timeout=900).outputs["train"]
    assert [comfy.view(each).size for each in shown["images"]] == [(64, 64), (64, 64)]
    assert [each["step"] for each in shown["lazylora_curve"]] == [1, 2, 3]
    assert all(each["d"] > 0 for each in shown["lazylora_curve"])
    assert any("Prodigy" in message for message in shown["lazylora_warnings"])


def test_three_wires_and_a_dataset_are_enough(comfy: ComfyClient, loras: Path):
    graph = Graph().add("dataset", "LazyLoRA_LoadDataset", folder="cats", resolution=64)
    wires = {"model": ("loader", 0), "clip": ("loader", 1), "vae": ("loader", 2), "dataset": ("dataset", 0)}
    graph.add("train", "LazyLoRA_TrainLoRA", **wires, max_train_epochs=1)
    comfy.run(graph.nodes, timeout=900)
    assert (loras / "my_lora" / "my_lora-000001.safetensors").exists()


def test_the_dataset_shows_pictures_and_says_what_it_found(comfy: ComfyClient):
    graph = Graph().training("unused")
    del graph.nodes["train"]
    graph.add("sheet", "SaveImage", images=("dataset", 1), filename_prefix="sheet")
    graph.add("captions", "PreviewAny", source=("tags", 1))
    finished = comfy.run(graph.nodes)
    report = finished.outputs["dataset"]["text"][0]
    assert "3 pictures, 6 per epoch" in report and "bucket 64×64" in report
    assert "2_cat/0.jpg: zwx, a cat, picture 0" in finished.outputs["captions"]["text"][0]
    assert comfy.images(finished, "sheet")[0].width > 3 * 256


def test_efficiency_gets_names_that_its_loader_knows(comfy: ComfyClient):
    graph = Graph().training("axis")
    graph.add("axis", "LazyLoRA_EpochsForEfficiency", run=("train", 0), with_base=True, strength_model=0.5)
    graph.add("shown", "PreviewAny", source=("axis", 0))
    shown = comfy.run(graph.nodes, timeout=900).outputs["shown"]["text"][0]
    names = comfy.object_info("LoraLoader")["input"]["required"]["lora_name"][0]
    files = [name for name in names if name.startswith("axis")]
    assert len(files) == 2
    assert json.loads(shown) == ["LoRA", [[[files[0], 0.0, 0.0]], *([[file, 0.5, 1.0]] for file in files)]]


@pytest.fixture(scope="class")
def base_stays(comfy: ComfyClient, pictures: Path) -> Iterator[None]:
    """The class's tests leave the base model as it was."""
    before = base_pixels(comfy)
    yield
    assert (base_pixels(comfy) == before).all()


@pytest.mark.usefixtures("base_stays")
class TestErrors:
    """Each is one sentence that names the thing and the cure."""

    def error_of(self, comfy: ComfyClient, nodes: dict[str, Any]) -> str:
        with pytest.raises(ComfyError) as caught:
            comfy.run(nodes, timeout=300)
        sentence = str(caught.value).strip()
        assert "Traceback" not in sentence and 'File "' not in sentence
        return sentence

    def test_an_empty_folder(self, comfy: ComfyClient, comfy_base: Path):
        (comfy_base / "input" / "nothing").mkdir(exist_ok=True)
        graph = Graph().training("error")
        graph.nodes["dataset"]["inputs"]["folder"] = "nothing"
        assert re.search(r"nothing has no pictures.*; put PNG", self.error_of(comfy, graph.nodes))

    def test_a_folder_that_is_not_there(self, comfy: ComfyClient):
        graph = Graph().training("error")
        graph.nodes["dataset"]["inputs"] |= {"path": "/no/such/folder"}
        assert re.search(r"no.such.folder does not exist; check the path", self.error_of(comfy, graph.nodes))

    def test_a_folder_outside_of_the_input_folder(self, comfy: ComfyClient):
        graph = Graph().training("error")
        graph.nodes["dataset"]["inputs"]["folder"] = "../models"
        assert "lies outside ComfyUI's input folder" in self.error_of(comfy, graph.nodes)

    def test_an_unreadable_picture_stops_where_one_wants_it_to(
        self, comfy: ComfyClient, comfy_base: Path, pictures: Path
    ):
        folder = comfy_base / "input" / "damaged"
        shutil.copytree(pictures / "2_cat", folder, dirs_exist_ok=True)
        (folder / "9.jpg").write_bytes(b"no picture")
        graph = Graph().training("error")
        graph.nodes["dataset"]["inputs"] |= {"folder": "damaged", "bad_pictures": "stop"}
        assert re.search(r"9\.jpg cannot be read as a picture; save it again", self.error_of(comfy, graph.nodes))
        graph.nodes["dataset"]["inputs"]["bad_pictures"] = "skip"
        del graph.nodes["train"]
        graph.add("shown", "PreviewAny", source=("dataset", 2))
        assert "left out: damaged/9.jpg" in comfy.run(graph.nodes).outputs["shown"]["text"][0]

    def test_a_name_that_is_a_path(self, comfy: ComfyClient):
        assert "use letters, digits, spaces" in self.error_of(comfy, Graph().training("../x").nodes)

    def test_an_output_folder_outside(self, comfy: ComfyClient):
        graph = Graph().training("error", output_folder="../../elsewhere")
        assert "lies outside ComfyUI's output and LoRA folders; write loras" in self.error_of(comfy, graph.nodes)

    def test_an_unwritable_output_folder(self, comfy: ComfyClient, comfy_base: Path):
        (comfy_base / "output" / "a file").write_text("in the way")
        graph = Graph().training("error", output_folder="a file")
        assert "cannot be written" in self.error_of(comfy, graph.nodes)

    def test_an_epoch_that_was_not_saved(self, comfy: ComfyClient):
        graph = Graph().training("few")
        chosen = {"model": ("loader", 0), "clip": ("loader", 1), "run": ("train", 0), "epochs": "7"}
        graph.add("epoch", "LazyLoRA_LoadEpoch", **chosen).picture("shown", ("epoch", 0), ("epoch", 1))
        assert "few has no epoch 7; choose one of 1, 2" in self.error_of(comfy, graph.nodes)

    def test_epochs_that_are_no_epochs(self, comfy: ComfyClient):
        graph = Graph()
        graph.add("epoch", "LazyLoRA_LoadEpoch", model=("loader", 0), clip=("loader", 1), epochs="last one")
        graph.picture("shown", ("epoch", 0), ("epoch", 1))
        assert "write latest, all, a number" in self.error_of(comfy, graph.nodes)

    def test_a_model_with_lora_patches_is_refused_unless_allowed(self, comfy: ComfyClient, loras: Path):
        comfy.run(Graph().training("first", max_train_epochs=1).nodes, timeout=900)
        graph = Graph().training("second", max_train_epochs=1)
        file = "first/first-000001.safetensors"
        patched = {"model": ("loader", 0), "clip": ("loader", 1), "lora_name": file}
        graph.add("lora", "LoraLoader", **patched, strength_model=1.0, strength_clip=1.0)
        graph.nodes["train"]["inputs"] |= {"model": ["lora", 0], "clip": ["lora", 1]}
        assert "LoRA" in self.error_of(comfy, graph.nodes)
        graph.nodes["train"]["inputs"]["allow_patched_model"] = True
        comfy.run(graph.nodes, timeout=900)
        assert (loras / "second" / "second-000001.safetensors").exists()


def test_every_input_and_output_has_a_tooltip_and_every_node_a_help_page(comfy: ComfyClient):
    nodes = {name: info for name, info in comfy.get("/object_info").items() if name.startswith("LazyLoRA_")}
    assert set(nodes) >= NODE_IDS, "ids are permanent: saved graphs hold them"
    for name, info in nodes.items():
        for inputs in info["input"].values():
            for each, spec in inputs.items():
                if not isinstance(spec, list) or len(spec) < 2:
                    continue  # a hidden one
                assert spec[1].get("tooltip"), f"{name}.{each} has no tooltip"
        assert all(info["output_tooltips"]), name
        assert info["description"], name
        page = comfy._open(f"/extensions/{_pack_name(comfy)}/docs/{name}.md").decode()
        assert page.startswith("# "), name
        undocumented = [each for each in _inputs(info) if f"`{each}`" not in page]
        assert not undocumented, f"{name}: the help page says nothing of {undocumented}"


NODE_IDS = {
    "LazyLoRA_DownloadImages",
    "LazyLoRA_LoadDataset",
    "LazyLoRA_AutoTag",
    "LazyLoRA_DatasetPictures",
    "LazyLoRA_CaptionDataset",
    "LazyLoRA_TagDataset",
    "LazyLoRA_PreviewDataset",
    "LazyLoRA_DatasetReport",
    "LazyLoRA_ConfigureNetwork",
    "LazyLoRA_ConfigureOptimizer",
    "LazyLoRA_ImportRecipe",
    "LazyLoRA_TrainLoRA",
    "LazyLoRA_LoadEpoch",
    "LazyLoRA_EpochGrid",
    "LazyLoRA_EpochsForEfficiency",
}


def test_the_example_workflow_is_in_the_template_browser(comfy: ComfyClient):
    offered = comfy.get("/workflow_templates")[_pack_name(comfy)]
    for title in offered:
        path = f"/api/workflow_templates/{_pack_name(comfy)}/{urllib.parse.quote(title)}"
        workflow = json.loads(comfy._open(path + ".json"))
        known = comfy.get("/object_info")
        for node in workflow["nodes"]:
            assert node["type"] in known or node["type"] in ("MarkdownNote", "Note")
            if node["type"].startswith("LazyLoRA_"):  # values are saved by position
                saved = [each["name"] for each in node["inputs"] if "widget" in each]
                assert len(node.get("widgets_values") or []) == len(saved)
                wanted = _widgets(known[node["type"]])
                assert saved == wanted[: len(saved)], f"{node['type']} has changed: save the example anew"
        assert Image.open(io.BytesIO(comfy._open(path + ".jpg"))).width >= 300
    assert offered


def _inputs(info: dict[str, Any]) -> list[str]:
    return [name for kind in ("required", "optional") for name in info["input"].get(kind, {})]


def _widgets(info: dict[str, Any]) -> list[str]:
    """The inputs that have a value of their own, in order."""
    specs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    kinds = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
    return [name for name, (kind, options) in specs.items() if kind in kinds and not options.get("forceInput")]


def _pack_name(comfy: ComfyClient) -> str:
    return comfy.object_info("LazyLoRA_TrainLoRA")["python_module"].split(".")[-1]


def _wait_for(happened: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
