"""The extension in a real A1111 (A1111_DIR, A1111_PYTHON): what is checked in Forge's process is so in A1111's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import test_forge_training as in_forge
from tests.hosts.a1111_server import a1111_server
from tests.hosts.webui_server import WebuiClient, place_extension

pytestmark = [pytest.mark.webui, pytest.mark.slow]

PACK = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def a1111(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebuiClient]:
    named = os.environ.get("A1111_DIR", "")
    if not (Path(named) / "modules" / "sd_hijack_open_clip.py").is_file():
        pytest.skip("no A1111: set A1111_DIR to its folder, and A1111_PYTHON to its interpreter")
    data = tmp_path_factory.mktemp("a1111")
    place_extension(data, PACK, "LazyLoRA")
    with a1111_server(Path(named).resolve(), os.environ.get("A1111_PYTHON", sys.executable), data) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(a1111: WebuiClient) -> Path:
    return in_forge.write_pictures(a1111.data / "pictures")


def test_its_plot_has_our_axes(a1111: WebuiClient):
    plots = [each for each in a1111.get("/sdapi/v1/script-info") if each["name"] == "x/y/z plot"]
    assert all({"[LazyLoRA] Epoch", "[LazyLoRA] Weight"} <= set(each["args"][0]["choices"]) for each in plots)
    assert plots


def test_a_generation_gets_its_turn_before_the_run_is_over(a1111: WebuiClient, pictures: Path):
    before = a1111.txt2img()
    in_forge.start(a1111, pictures, "shared", epochs=100)
    in_forge.wait_until(a1111, lambda now: now["state"] == "running" and now["step"] >= 1)
    assert a1111.txt2img().tobytes() == before.tobytes(), "the training shows in another's picture"
    now = in_forge.status(a1111)
    assert now["state"] != "idle"
    assert now["step"] < now["total_steps"] == 300, "it was not let in before the run was over"
    a1111.post("/lazylora/stop", {}, headers={"Origin": a1111.address})
    in_forge.wait_until(a1111, in_forge.is_idle, timeout=60)
    assert a1111.txt2img().tobytes() == before.tobytes()


def test_interrupt_stops_within_a_step_and_resume_goes_on(a1111: WebuiClient, pictures: Path):
    in_forge.test_interrupt_stops_within_a_step_and_resume_goes_on(a1111, pictures)


def test_interrupt_reaches_into_a_preview(a1111: WebuiClient, pictures: Path):
    in_forge.test_interrupt_reaches_into_a_preview(a1111, pictures)


def test_training_after_a_lora_in_the_prompt_leaves_the_same_pictures(a1111: WebuiClient, pictures: Path):
    """The LoRA of the last generation sits in the weights when the run begins."""
    before = a1111.txt2img()
    in_forge.start(a1111, pictures, "first", epochs=1)
    in_forge.wait_until(a1111, in_forge.is_idle)
    with_first = a1111.txt2img("a cat on a wall <lora:first-000001:1>")
    assert with_first.tobytes() != before.tobytes()
    in_forge.start(a1111, pictures, "second", epochs=1)
    in_forge.wait_until(a1111, in_forge.is_idle)
    assert a1111.txt2img().tobytes() == before.tobytes()
    assert a1111.txt2img("a cat on a wall <lora:first-000001:1>").tobytes() == with_first.tobytes()
