"""From photos, and from a messy folder, to report, edited captions and a run, by the nodes of a real ComfyUI."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.data.messy import SOUND, make_messy
from tests.hosts.comfy_server import ComfyClient

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(params=["photos", "messy"])
def room(request, comfy_base: Path) -> Path:
    """A folder in ComfyUI's input folder that the test may write into."""
    folder = comfy_base / "input" / f"room of {request.param}"
    shutil.rmtree(folder, ignore_errors=True)
    if request.param == "messy":
        if sys.platform == "win32":
            pytest.skip("such names and links need a POSIX file system")
        return make_messy(folder)
    if not (PHOTOS / "cat").is_dir():
        pytest.skip(f"no photos in {PHOTOS}")
    for concept in ("cat", "dog", "teapot"):
        (folder / f"1_{concept}").mkdir(parents=True)
        for photo in (PHOTOS / concept).glob("*.*"):
            (folder / f"1_{concept}" / photo.name).write_bytes(photo.read_bytes())
    return folder


def graph(room: Path) -> dict:
    """Report, contact sheet, captions written in their own files, and a training, of one dataset with two edits."""
    sizes = {"resolution": 64, "bucket_reso_steps": 16, "batch_size": 4}
    nodes = {
        "loader": ("TinyCheckpointLoader", {"ckpt_name": "sd1_tiny.safetensors", "text_layers": 3}),
        "load": ("LazyLoRA_LoadDataset", {"folder": room.name, **sizes}),
        "hats": ("LazyLoRA_TagDataset", {"dataset": ["load", 0], "operation": "remove", "tags": "hat"}),
        "zwx": (
            "LazyLoRA_TagDataset",
            {"dataset": ["hats", 0], "trigger_word": "zwx", "operation": "append", "tags": "photo"},
        ),
        "report": ("LazyLoRA_DatasetReport", {"dataset": ["zwx", 0], "clip": ["loader", 1]}),
        "picture": ("SaveImage", {"images": ["report", 0], "filename_prefix": "room"}),
        "json": ("PreviewAny", {"source": ["report", 2]}),
        "sheet": ("LazyLoRA_PreviewDataset", {"dataset": ["zwx", 0]}),
        "pictures": ("LazyLoRA_DatasetPictures", {"dataset": ["load", 0]}),
        "said": ("RegexReplace", {"string": ["pictures", 1], "regex_pattern": "^", "replace": "by hand, "}),
        "written": (
            "LazyLoRA_CaptionDataset",
            {"dataset": ["load", 0], "captions": ["said", 0], "action": "write"},
        ),
        "network": ("LazyLoRA_ConfigureNetwork", {"rank": 2, "alpha": 1.0}),
        "optimizer": ("LazyLoRA_ConfigureOptimizer", {"optimizer": "AdamW", "learning_rate": 1e-3}),
        "train": (
            "LazyLoRA_TrainLoRA",
            {
                **{"model": ["loader", 0], "clip": ["loader", 1], "vae": ["loader", 2], "dataset": ["zwx", 0]},
                **{"network": ["network", 0], "optimizer": ["optimizer", 0], "max_train_epochs": 1},
                "output_name": room.name.replace(" ", "_"),
            },
        ),
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def test_a_report_edited_captions_and_a_run(comfy: ComfyClient, comfy_base: Path, room: Path):
    start = time.monotonic()
    finished = comfy.run(graph(room), timeout=500)
    print(f"{room.name}: {time.monotonic() - start:.1f} s")
    report = json.loads(finished.outputs["json"]["text"][0])
    is_messy = room.name.endswith("messy")
    assert report["pictures"] == (len(SOUND) + 3 if is_messy else 15)
    assert {"zwx", "photo"} <= {each["tag"] for each in report["tags"]}
    assert "hat" not in {each["tag"] for each in report["tags"]}
    assert comfy.images(finished, "picture")[0].width > 500 and comfy.images(finished, "sheet")[0].width > 500
    assert "zwx, " in finished.outputs["zwx"]["text"][0]
    if is_messy:
        assert "left out: 4_cat/bomb.png has more than 64 million pixels" in finished.outputs["report"]["text"][0]
        assert (room / "4_cat" / "a.txt").read_text() == "by hand, cat, blue eyes, hat, tree"
        assert (room / "1_dog" / "d.txt").read_text() == "by hand, rex (film), dog, long ears"
    else:
        assert (room / "1_cat" / "00.txt").read_text() == "by hand, cat"
    name = room.name.replace(" ", "_")
    assert (comfy_base / "output" / "loras" / name / f"{name}-000001.safetensors").is_file()
