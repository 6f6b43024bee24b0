"""Download Images in a real ComfyUI: it does nothing unasked, and fills no folder but ComfyUI's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts.comfy_server import ComfyClient, ComfyError

pytestmark = [pytest.mark.comfy, pytest.mark.slow]


def graph(**inputs: object) -> dict:
    given = {"folder": "fetched", "site": "danbooru", "tags": "cat", "limit": 1, "pause_seconds": 1, "limit_rate": "4M"}
    return {"fetch": {"class_type": "LazyLoRA_DownloadImages", "inputs": {**given, "download": False, **inputs}}}


def test_nothing_is_fetched_unasked(comfy: ComfyClient, comfy_base: Path):
    finished = comfy.run(graph())
    assert finished.outputs["fetch"]["text"][0] == "nothing was fetched: turn download on"
    assert not (comfy_base / "input" / "fetched").exists()


@pytest.mark.parametrize("folder", ["../models", "/tmp/elsewhere", ".", ""])
def test_no_folder_outside_the_input_folder_is_filled(comfy: ComfyClient, folder: str):
    with pytest.raises(ComfyError, match="names no folder inside ComfyUI's input folder"):
        comfy.run(graph(folder=folder, download=True))


def test_a_site_that_is_not_listed_is_refused(comfy: ComfyClient):
    with pytest.raises(ComfyError):
        comfy.run(graph(site="http://127.0.0.1/", download=True))
