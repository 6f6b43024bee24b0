"""The dataset room in a real ComfyUI: report, contact sheet, edits and the tagger."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hosts.comfy_server import ComfyClient, ComfyError
from tests.tagging.small_taggers import CSV, write_wd_tagger

pytestmark = [pytest.mark.comfy, pytest.mark.slow]


@pytest.fixture
def room(comfy_base: Path) -> Path:
    """Four pictures in ComfyUI's input folder, two of them the same, one without a caption."""
    folder = comfy_base / "input" / "room"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "3_cat").mkdir(parents=True)
    dice = np.random.default_rng(5)
    for number in range(3):
        drawn = Image.fromarray(dice.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((96, 64 + 32 * number))
        drawn.save(folder / "3_cat" / f"{number}.png")
    Image.open(folder / "3_cat" / "0.png").save(folder / "3_cat" / "3.jpg")
    for number, caption in enumerate(("cat, blue eyes, hat, tree", "cat, tree", "cat, smile")):
        (folder / "3_cat" / f"{[0, 1, 3][number]}.txt").write_text(caption)
    return folder


def graph(**nodes: dict) -> dict:
    """Nodes by name, each {"class_type": its inputs}, behind a LoadDataset of the room."""
    loaded = {"class_type": "LazyLoRA_LoadDataset", "inputs": {"folder": "room", "resolution": 64}}
    found = {"load": loaded}
    for name, node in nodes.items():
        ((kind, inputs),) = node.items()
        found[name] = {"class_type": kind, "inputs": inputs}
    return found


def test_the_report_is_shown_drawn_and_given_as_json(comfy: ComfyClient, room: Path):
    nodes = graph(
        clip={"TinyCheckpointLoader": {"ckpt_name": "sd1_tiny.safetensors", "text_layers": 3}},
        report={"LazyLoRA_DatasetReport": {"dataset": ["load", 0], "clip": ["clip", 1]}},
        picture={"SaveImage": {"images": ["report", 0], "filename_prefix": "report"}},
        json={"PreviewAny": {"source": ["report", 2]}},
    )
    finished = comfy.run(nodes)
    text = finished.outputs["report"]["text"][0]
    assert "4 pictures, 12 per epoch" in text and "look alike: 3_cat/0.png, 3_cat/3.jpg" in text
    report = json.loads(finished.outputs["json"]["text"][0])
    assert report["without_caption"] == ["3_cat/2.png"]
    assert report["tokens"] == {"is_estimated": False, "longest": 8, "over_75": [], "over_150": [], "over_225": []}
    (picture,) = comfy.images(finished, "picture")
    assert picture.width > 500


def test_masks_and_regularisation_pictures_are_read_again_when_they_change(comfy: ComfyClient, room: Path):
    masks, reg = room.with_name("room masks"), room.with_name("room reg") / "1_animal"
    for folder in (masks, reg):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(room / "3_cat" / "0.png", folder)
    nodes = graph(show={"PreviewAny": {"source": ["load", 2]}})
    nodes["load"]["inputs"] |= {"masks_dir": str(masks), "reg_data_dir": str(reg.parent)}
    report = comfy.run(nodes).outputs["load"]["text"][0]
    assert "regularisation: 1 picture, 12 per epoch" in report and "and 2 more without a mask" in report
    assert "load" in comfy.run(nodes).cached_nodes
    shutil.copy(room / "3_cat" / "1.png", masks)
    assert "and 1 more without a mask" in comfy.run(nodes).outputs["load"]["text"][0]
    shutil.copy(room / "3_cat" / "1.png", reg)
    assert "regularisation: 2 pictures" in comfy.run(nodes).outputs["load"]["text"][0]


def test_edits_are_previewed_and_files_stay(comfy: ComfyClient, room: Path):
    nodes = graph(
        edit={
            "LazyLoRA_TagDataset": {"dataset": ["load", 0], "operation": "drop_traits", "tags": "cat", "percent": 50}
        },
        sheet={"LazyLoRA_PreviewDataset": {"dataset": ["edit", 0], "tag": "-smile", "per_page": 2, "page": 9}},
    )
    finished = comfy.run(nodes)
    assert "3_cat/0.png: cat, blue eyes, hat\n" in finished.outputs["edit"]["text"][0]
    (sheet,) = comfy.images(finished, "sheet")
    assert sheet.width < 400, "three pictures lack the tag: one is left for the last page"
    assert (room / "3_cat" / "0.txt").read_text() == "cat, blue eyes, hat, tree"


def test_without_a_tagger_the_node_says_what_to_put_where(comfy: ComfyClient, room: Path):
    nodes = graph(tag={"LazyLoRA_AutoTag": {"dataset": ["load", 0], "tagger": "(by name)", "name": "SmilingWolf/wd"}})
    with pytest.raises(ComfyError, match=r"put its selected_tags\.csv and model\.onnx into .*SmilingWolf_wd"):
        comfy.run(nodes)


@pytest.fixture
def tagger(comfy_base: Path, comfy_python: str) -> str:
    """The name of a small tagger in ComfyUI's models/taggers, which finds long hair on whatever is not black."""
    pytest.importorskip("onnx")
    if subprocess.run([comfy_python, "-c", "import onnxruntime"], capture_output=True).returncode:
        pytest.skip("no onnxruntime in ComfyUI's Python")
    weights = np.zeros((3, len(CSV)))
    weights[:, 3] = 1
    return write_wd_tagger(comfy_base / "models" / "taggers" / "small", weights).name


def test_a_tagger_writes_captions_and_they_can_be_taken_back(comfy: ComfyClient, room: Path, tagger: str):
    assert tagger in json.dumps(comfy.object_info("LazyLoRA_AutoTag")["input"]["required"]["tagger"])
    captions = {path.name: path.read_bytes() for path in (room / "3_cat").glob("*.txt")}

    def tagged(action: str) -> str:
        inputs = {"dataset": ["load", 0], "tagger": tagger, "mode": "append", "action": action}
        return comfy.run(graph(tag={"LazyLoRA_AutoTag": inputs})).outputs["tag"]["text"][0]

    assert "3_cat/1.png: cat, tree, long hair" in tagged("show")
    assert {path.name: path.read_bytes() for path in (room / "3_cat").glob("*.txt")} == captions
    assert tagged("write").startswith("4 caption files written")
    assert (room / "3_cat" / "1.txt").read_text() == "cat, tree, long hair"
    assert (room / "3_cat" / "2.txt").read_text() == "long hair"
    assert tagged("undo") == "undone: tagged by small (4 files)"
    assert {path.name: path.read_bytes() for path in (room / "3_cat").glob("*.txt")} == captions


def test_a_graph_writes_no_caption_outside_comfyui_s_input_folder(comfy: ComfyClient, room: Path, tmp_path: Path):
    shutil.copytree(room, tmp_path / "room")
    nodes = graph(tag={"LazyLoRA_AutoTag": {"dataset": ["load", 0], "tagger": "(by name)", "action": "undo"}})
    nodes["load"]["inputs"]["path"] = str(tmp_path / "room")
    with pytest.raises(ComfyError, match="outside ComfyUI's input folder"):
        comfy.run(nodes)
    assert not (tmp_path / "room" / ".lazylora").exists()


def captioned(room: Path, comfy: ComfyClient, **inputs: str) -> str:
    """What CaptionDataset says to every caption in capitals."""
    nodes = graph(
        pictures={"LazyLoRA_DatasetPictures": {"dataset": ["load", 0]}},
        loud={"RegexReplace": {"string": ["pictures", 1], "regex_pattern": "cat", "replace": "LYNX"}},
        written={"LazyLoRA_CaptionDataset": {"dataset": ["load", 0], "captions": ["loud", 0], **inputs}},
        sizes={"GetImageSize": {"image": ["pictures", 0]}},
        width={"PreviewAny": {"source": ["sizes", 1]}},
    )
    return comfy.run(nodes).outputs["written"]["text"][0]


def test_any_node_s_texts_become_captions_and_can_be_taken_back(comfy: ComfyClient, room: Path):
    captions = sorted((room / "3_cat").glob("*.txt"))
    before = [each.read_text() for each in captions]
    assert "3_cat/1.png: LYNX, tree" in captioned(room, comfy)
    assert [each.read_text() for each in captions] == before
    assert captioned(room, comfy, action="write").startswith("4 caption files written")
    assert (room / "3_cat" / "1.txt").read_text() == "LYNX, tree"
    assert (room / "3_cat" / "2.txt").read_text() == "LYNX", "the folder's name was its caption"
    assert captioned(room, comfy, action="undo") == "undone: captioned (4 files)"
    assert [each.read_text() for each in sorted((room / "3_cat").glob("*.txt"))] == before
