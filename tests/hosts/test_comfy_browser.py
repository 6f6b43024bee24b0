"""The dataset browser: its routes on a real ComfyUI, and its page in a real Chromium."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.hosts.chromium import Page, chromium_page, find_chromium
from tests.hosts.comfy_server import ComfyClient, comfy_server

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

PAYLOAD = "<img src=x onerror=alert(1)>"
COLOURS = {"red hat": "#c0392b", "blue hat": "#2e6fba", "green hat": "#2d8a4e", "no hat": "#b9b2a3"}


def draw_pictures(folder: Path, count: int = 12) -> Path:
    """Small drawn cats with hats, and captions that say so."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(count):
        tag, colour = list(COLOURS.items())[number % len(COLOURS)]
        picture = Image.new("RGB", (160, 160 + 20 * (number % 3)), f"hsl({number * 47 % 360}, 35%, 82%)")
        pen = ImageDraw.Draw(picture)
        pen.ellipse((40, 60, 120, 140), fill="#8a6d4b")
        pen.polygon([(48, 75), (55, 45), (75, 65)], fill="#8a6d4b")
        pen.polygon([(112, 75), (105, 45), (85, 65)], fill="#8a6d4b")
        pen.ellipse((62, 88, 72, 98), fill="white")
        pen.ellipse((88, 88, 98, 98), fill="white")
        if tag != "no hat":
            pen.rectangle((55, 30, 105, 62), fill=colour)
        picture.save(folder / f"{number:02}.png")
        mood = "smile" if number % 3 else "sleepy"
        (folder / f"{number:02}.txt").write_text(f"cat, {tag}, {mood}, simple background")
    return folder


@pytest.fixture
def cats(comfy_base: Path) -> Path:
    """A folder of drawn cats in ComfyUI's input folder."""
    return draw_pictures(comfy_base / "input" / "browsed cats", 4)


def opened(comfy: ComfyClient, **inputs: str) -> str:
    """The id that Preview Dataset gives its browser."""
    graph = {
        "load": {
            "class_type": "LazyLoRA_LoadDataset",
            "inputs": {"folder": "browsed cats", "resolution": 64, **inputs},
        },
        "sheet": {"class_type": "LazyLoRA_PreviewDataset", "inputs": {"dataset": ["load", 0]}},
    }
    (dataset,) = comfy.run(graph).outputs["sheet"]["lazylora_dataset"]
    return dataset


def ask(comfy: ComfyClient, path: str, values: Any = None, **headers: str) -> tuple[int, bytes]:
    """(status, body) of a GET, or of a POST as this server's own page sends it but for the headers given."""
    body = None if values is None else values if isinstance(values, bytes) else json.dumps(values).encode()
    own = {} if body is None else {"Content-Type": "application/json", "Origin": comfy.address}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in {**own, **given}.items() if value}
    request = urllib.request.Request(f"{comfy.address}/lazylora/datasets/{path}", data=body, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def done(comfy: ComfyClient, path: str, values: Any = None) -> dict[str, Any]:
    status, body = ask(comfy, path, values)
    assert status == 200, body
    return json.loads(body)


def test_a_dataset_that_a_node_has_opened_is_shown(comfy: ComfyClient, cats: Path):
    dataset = opened(comfy)
    state = done(comfy, dataset)
    assert (state["folder"], state["may_edit"], state["undo"]) == ("browsed cats", True, None)
    assert [each["name"] for each in state["pictures"]] == [f"browsed cats/{number:02}.png" for number in range(4)]
    assert state["pictures"][0]["caption"] == "cat, red hat, sleepy, simple background"
    status, jpeg = ask(comfy, f"{dataset}/thumbnails/{state['pictures'][0]['id']}")
    assert status == 200 and Image.open(io.BytesIO(jpeg)).format == "JPEG"


def test_edits_are_written_and_undone(comfy: ComfyClient, cats: Path):
    dataset = opened(comfy)
    before = {path.name: path.read_bytes() for path in cats.glob("*.txt")}
    after = done(comfy, f"{dataset}/remove_tag", {"tag": "Simple Background"})
    assert after["undo"]["files"] == 4 and (cats / "00.txt").read_text() == "cat, red hat, sleepy"
    picture = after["pictures"][0]
    edit = {"picture": picture["id"], "seen": picture["caption"], "caption": PAYLOAD}
    assert done(comfy, f"{dataset}/caption", edit)["pictures"][0]["caption"] == PAYLOAD
    status, refusal = ask(comfy, f"{dataset}/caption", edit)
    assert status == 409 and "was changed meanwhile" in json.loads(refusal)["error"]
    for _ in range(2):
        undo = done(comfy, dataset)["undo"]
        assert done(comfy, f"{dataset}/undo", {"number": undo["number"]})
    assert {path.name: path.read_bytes() for path in cats.glob("*.txt")} == before


@pytest.mark.parametrize(
    ("status", "values", "headers"),
    [
        (403, {"tag": "cat"}, {"Origin": "http://elsewhere.example"}),
        (403, {"tag": "cat"}, {"Origin": ""}),
        (403, {"tag": "cat"}, {"Origin": "null"}),
        (415, {"tag": "cat"}, {"Content_Type": "text/plain"}),
        (415, {"tag": "cat"}, {"Content_Type": "application/x-www-form-urlencoded"}),
        (400, {"tag": ["cat"]}, {}),
        (400, {"tag": "cat, smile"}, {}),
        (400, [], {}),
        (400, b"{", {}),
        (400, b"[" * 100_000, {}),
        (413, b" " * 300_000, {}),
    ],
)
def test_what_is_no_edit_from_our_page_is_refused(comfy: ComfyClient, cats: Path, status, values, headers):
    dataset = opened(comfy)
    assert ask(comfy, f"{dataset}/remove_tag", values, **headers)[0] == status
    assert "cat," in (cats / "00.txt").read_text()


def test_only_what_was_opened_can_be_asked_for(comfy: ComfyClient, cats: Path):
    dataset = opened(comfy)
    paths = (f"{dataset}x", "%2e%2e", f"{dataset}/thumbnails/00.png", f"{dataset}/thumbnails/..%2f..%2f00.png")
    assert [ask(comfy, path)[0] for path in paths] == [404, 404, 409, 409]
    assert ask(comfy, f"{dataset}/captions", {})[0] in (404, 405)


def test_outside_comfyui_s_input_folder_nothing_is_edited(comfy: ComfyClient, cats: Path, tmp_path: Path):
    shutil.copytree(cats, tmp_path / "cats")
    dataset = opened(comfy, path=str(tmp_path / "cats"))
    assert done(comfy, dataset)["may_edit"] is False
    assert ask(comfy, f"{dataset}/remove_tag", {"tag": "cat"})[0] == 403
    assert not (tmp_path / "cats" / ".lazylora").exists()


# -- in a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_frontend(
    comfy_dir: Path, comfy_python: str, comfy_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ComfyClient, Page]]:
    """A ComfyUI with its own frontend, and a Chromium."""
    program = find_chromium()
    if program is None or os.name != "posix":
        pytest.skip("no Chromium on this machine")
    code = "import comfyui_frontend_package as p, os; print(os.path.join(os.path.dirname(p.__file__), 'static'))"
    found = subprocess.run([comfy_python, "-c", code], capture_output=True, text=True)
    if found.returncode:
        pytest.skip("no comfyui-frontend-package beside ComfyUI")
    draw_pictures(comfy_base / "input" / "hats")
    options = ("--front-end-root", found.stdout.strip())
    with (
        comfy_server(comfy_dir, comfy_python, comfy_base, options) as client,
        chromium_page(program, tmp_path_factory.mktemp("chromium") / "profile") as page,
    ):
        yield client, page


BUILD = """(() => {
  app.graph.clear();
  const load = LiteGraph.createNode("LazyLoRA_LoadDataset"), sheet = LiteGraph.createNode("LazyLoRA_PreviewDataset");
  load.pos = [30, 60];
  sheet.pos = [460, 60];
  app.graph.add(load);
  app.graph.add(sheet);
  load.widgets.find((each) => each.name === "folder").value = "hats";
  load.connect(0, sheet, 0);
  window.sheet = sheet;
  app.queuePrompt(0);
  return true;
})()"""


def tags(page: Page) -> list[str]:
    return page.run("[...document.querySelectorAll('.lazylora-tag span')].map((each) => each.textContent)")


def click(page: Page, words: str) -> None:
    """Click the button of the browser that says this, or begins with it."""
    page.wait_for(
        "(() => { const found = [...document.querySelectorAll('.lazylora-browser button')]"
        f".find((each) => !each.hidden && each.textContent.startsWith({json.dumps(words)}));"
        " found?.click(); return !!found; })()"
    )


def captions(page: Page) -> list[str]:
    return page.run("[...document.querySelectorAll('.lazylora-cell textarea')].map((each) => each.value)")


def test_tags_are_clicked_removed_and_captions_edited_in_the_node(with_frontend, comfy_base: Path, tmp_path: Path):
    comfy, page = with_frontend
    folder = comfy_base / "input" / "hats"
    page.open(comfy.address)
    page.wait_for("!!(window.app?.graph && window.LiteGraph?.registered_node_types?.LazyLoRA_PreviewDataset)", 240)
    page.run(BUILD)
    page.wait_for("document.querySelectorAll('.lazylora-cell').length === 12", 240)
    assert tags(page)[0] == "cat"
    page.press("Escape")  # the templates that a new user is shown
    page.wait_for("!document.querySelector('.p-dialog-mask')")
    keep_picture(page, tmp_path, "node")

    click(page, "red hat")
    page.wait_for("document.querySelectorAll('.lazylora-cell').length === 3")
    assert all("red hat" in caption for caption in captions(page))
    keep_picture(page, tmp_path, "tag")
    click(page, "remove everywhere")
    page.wait_for("document.querySelectorAll('.lazylora-cell').length === 12")
    assert "red hat" not in tags(page)
    assert (folder / "00.txt").read_text() == "cat, sleepy, simple background"

    page.run("document.querySelector('.lazylora-cell textarea').select()")
    page.run("document.querySelector('.lazylora-cell textarea').focus()")
    page.write(f"cat, straw hat, {PAYLOAD}")
    page.press("Enter")
    page.wait_for("[...document.querySelectorAll('.lazylora-tag span')].some((e) => e.textContent === 'straw hat')")
    assert (folder / "00.txt").read_text() == f"cat, straw hat, {PAYLOAD}" and PAYLOAD in tags(page)

    click(page, "enlarge")
    page.wait_for("!!document.querySelector('dialog[open] .lazylora-grid img')?.naturalWidth")
    keep_picture(page, tmp_path, "enlarged")
    click(page, "close")
    click(page, "undo: the caption of hats/00.png")
    click(page, "undo: removed red hat")
    page.wait_for("[...document.querySelectorAll('.lazylora-tag span')].some((e) => e.textContent === 'red hat')")
    assert (folder / "00.txt").read_text() == "cat, red hat, sleepy, simple background"
    assert page.run("document.querySelectorAll('.lazylora-browser img[src=x]').length") == 0
    ours = [each for each in page.errors if "/extensions/" in each or each.startswith("dialog")]
    assert ours == []


def keep_picture(page: Page, folder: Path, name: str) -> None:
    """Keep a screenshot beside the test's files, to be looked at."""
    (folder / f"{name}.png").write_bytes(page.picture())
