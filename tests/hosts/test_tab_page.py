"""The page of its own in a real Chromium: a newcomer's way from a folder to the grid of epochs, on the tiny world.

GRADIO_PYTHONS names interpreters, parted like PATH, that have Gradio, torch and diffusers; each is walked through.
Sets of packages that go together, beside torch and the pack's own:

gradio==6.31.0 diffusers transformers
gradio==4.40.0 fastapi==0.104.1 pydantic==2.8.2 diffusers==0.31.0 transformers==4.46.1 "huggingface_hub<1"
gradio==3.41.2 gradio_client==0.5.0 fastapi==0.94.0 "pydantic<2" httpx==0.24.1 "websockets<12" "matplotlib<3.10"
    diffusers==0.31.0 transformers==4.46.1 "huggingface_hub<1"
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.chromium import Page, chromium_page, find_chromium
from trainer_core.demo.character import write_dataset

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = [each for each in os.environ.get("GRADIO_PYTHONS", "").split(os.pathsep) if each]
EPOCHS = 2


class Newcomer:
    """Somebody in front of the page, who knows what stands on it by our ids."""

    def __init__(self, page: Page, pictures: Path):
        self._page, self._pictures = page, pictures

    def enter(self, name: str, text: str) -> None:
        """Type into a field."""
        field = f"document.querySelector('#lazylora_{name} textarea, #lazylora_{name} input')"
        self._page.wait_for(f"!!{field}")
        self._page.run(f"({field}.focus(), {field}.select(), true)")
        self._page.write(text)
        self._page.run("document.activeElement.blur()")

    def click(self, name: str) -> None:
        """Press a button of Gradio's."""
        button = (
            f"(document.querySelector('button#lazylora_{name}') ?? document.querySelector('#lazylora_{name} button'))"
        )
        self._page.wait_for(f"!!{button} && !{button}.disabled")
        self._page.run(f"{button}.click()")

    def press(self, words: str, within: str) -> None:
        """Press a button of ours by what it says."""
        button = f"[...document.querySelectorAll('{within} button')].find((b) => b.textContent === {json.dumps(words)})"
        self._page.wait_for(f"!!{button}")
        self._page.run(f"{button}.click()")

    def enter_room(self, name: str) -> None:
        """Open one of the tabs; some Gradios keep an invisible copy of their buttons."""
        buttons = "[...document.querySelectorAll('#lazylora_rooms button')]"
        is_seen = "b.offsetParent && !b.closest('[aria-hidden=true]')"
        found = f"{buttons}.find((b) => b.textContent.trim() === '{name}' && {is_seen})"
        self._page.wait_for(f"!!{found}")
        self._page.run(f"{found}.click()")

    def drop(self, name: str, text: str) -> None:
        """Drop a file of settings on the recipe room."""
        self._page.run(
            "(() => { const all = new DataTransfer();"
            f" all.items.add(new File([{json.dumps(text)}], '{name}', {{type: 'application/json'}}));"
            " const input = document.querySelector('#lazylora_import input[type=file]');"
            " input.files = all.files; input.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def unfold(self, name: str) -> None:
        """Open an accordion."""
        self._page.run(f"document.querySelector('#lazylora_{name} .label-wrap').click()")

    def sees(self, words: str, where: str, timeout: float = 90) -> str:
        """Wait for words in the part of the page with that id; gives all that it says."""
        text = f"(document.getElementById('lazylora_{where}')?.innerText ?? '')"
        self._page.wait_for(f"{text}.includes({json.dumps(words)})", timeout)
        return self._page.run(text)

    def counts(self, selector: str, count: int, timeout: float = 90) -> None:
        """Wait until there are so many."""
        self._page.wait_for(f"document.querySelectorAll({json.dumps(selector)}).length === {count}", timeout)

    def has_loaded(self, selector: str, timeout: float = 90) -> None:
        """Wait until the pictures are there and have been decoded."""
        images = f"[...document.querySelectorAll({json.dumps(selector)})]"
        self._page.wait_for(f"{images}.length && {images}.every((i) => i.naturalWidth)", timeout)

    def keep(self, name: str) -> None:
        """Keep a screenshot beside the test's files, to be looked at."""
        time.sleep(0.5)
        (self._pictures / f"{name}.png").write_bytes(self._page.picture())


@pytest.mark.parametrize("python", PYTHONS or [pytest.param("", id="none")])
def test_from_a_folder_to_the_grid_of_epochs(python: str, tmp_path: Path):
    if not python:
        pytest.skip("no Gradio: set GRADIO_PYTHONS to interpreters that have it, torch and diffusers")
    program = find_chromium()
    if program is None or os.name != "posix":
        pytest.skip("no Chromium on this machine")
    folder = mascots(tmp_path / "data")
    with served(python, tmp_path) as address, chromium_page(program, tmp_path / "profile", (1280, 1250)) as page:
        walk(page, address, Newcomer(page, tmp_path), folder, tmp_path / "runs")


def walk(page: Page, address: str, newcomer: Newcomer, folder: Path, runs: Path) -> None:
    page.open(address)
    page.wait_for("!!document.getElementById('lazylora_train') && !!globalThis.lazyloraTab", 120)
    newcomer.enter("dataset_folder", str(folder))
    newcomer.sees("16 pictures, all with a caption", "said")
    newcomer.click("look")
    newcomer.sees("pictures", "dataset_summary")
    newcomer.has_loaded("#lazylora_gallery img")
    newcomer.keep("dataset")

    newcomer.enter_room("Recipe")
    newcomer.sees("steps in all", "outlook")
    newcomer.drop(
        "theirs.json", json.dumps({"LoRA_type": "Standard", "network_dim": 8, "network_alpha": 4, "epoch": 9})
    )
    assert "kohya GUI JSON, 4 keys" in newcomer.sees("keys", "about_recipe")
    newcomer.unfold("section_run")
    newcomer.enter("max_train_epochs", str(EPOCHS))
    newcomer.click("look_ahead")
    newcomer.sees("memory, about", "outlook")
    newcomer.keep("recipe")

    newcomer.click("train")
    newcomer.sees("step ", "strip")
    newcomer.keep("training")
    newcomer.press("Stop", "#lazylora_live_strip")
    newcomer.sees("resume goes on from here", "strip", 200)
    newcomer.press("Resume", "#lazylora_live_strip")
    newcomer.sees("done: look at its epochs", "strip", 600)
    newcomer.has_loaded("#lazylora_live_run .lazylora-previews img")
    assert page.run("lazyloraTab.status.step") == 16 * EPOCHS
    newcomer.keep("run")

    newcomer.enter_room("Epochs")
    newcomer.counts(".lazylora-card", EPOCHS)
    newcomer.has_loaded(".lazylora-card img")
    newcomer.press("Compare", ".lazylora-card")
    newcomer.counts(".lazylora-comparison figure", 1)
    newcomer.press("Keep…", ".lazylora-card")
    page.run("document.querySelector('.lazylora-form input').value = 'mascot'")
    newcomer.press("Keep it", ".lazylora-form")
    newcomer.sees("is kept as mascot", "epochs")
    assert {path.name for path in runs.iterdir() if path.stem == "mascot"} == {
        "mascot.json",
        "mascot.png",
        "mascot.safetensors",
    }
    newcomer.click("draw_grid")
    newcomer.sees("drawn; a right click", "grids_said", 300)
    newcomer.has_loaded("#lazylora_grids_picture img")
    newcomer.keep("epochs")
    page.run("document.getElementById('lazylora_grids_picture').scrollIntoView({block: 'end'})")
    newcomer.keep("grid")

    page.run("globalThis.confirm = () => true")
    newcomer.press("✕", ".lazylora-card")
    newcomer.counts(".lazylora-card", EPOCHS - 1)
    assert len(list((runs / "my mascot").glob("*.safetensors"))) == EPOCHS - 1

    page.open(address)  # a closed browser changes nothing: opened again, the page shows what there is
    page.wait_for("!!globalThis.lazyloraTab?.status?.entry", 120)
    newcomer.enter_room("Run")
    newcomer.has_loaded("#lazylora_live_run .lazylora-previews img")
    assert page.errors == []


def mascots(root: Path) -> Path:
    """The demo's drawn mascot, four times an epoch."""
    write_dataset(root)
    (drawn,) = [path for path in root.iterdir() if path.is_dir()]
    folder = root / "my mascot"
    folder.mkdir()
    shutil.move(drawn, folder / "4_zqk")
    return folder


@contextlib.contextmanager
def served(python: str, folder: Path) -> Iterator[str]:
    """The page's address, for as long as the block lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        python,
        "-W",
        "ignore",
        "-m",
        "trainer_core",
        "ui",
        "--port",
        str(port),
        "--output",
        str(folder / "runs"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False"}
    with (folder / "page.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_served(address, server, folder / "page.log")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def wait_until_served(address: str, server: subprocess.Popen, log: Path, timeout: float = 180) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{address}/lazylora/status"):
            return
        time.sleep(0.5)
    raise AssertionError(f"the page did not come up under {sys.executable}: {log.read_text()}")
