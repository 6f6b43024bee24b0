"""A training and the people who generate meanwhile share one Forge: its queue, its Interrupt, its progress bar."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.hosts.webui_server import WebuiClient, eventually

pytestmark = [pytest.mark.webui, pytest.mark.slow]


@pytest.fixture(scope="module")
def pictures(forge_data: Path) -> Path:
    """Three pictures with captions, in a folder that Forge allows."""
    return write_pictures(forge_data / "pictures")


def write_pictures(folder: Path) -> Path:
    """Three squares with captions."""
    folder.mkdir(exist_ok=True)
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (64, 64), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {colour} square")
    return folder


def start(forge: WebuiClient, pictures: Path, name: str, epochs: int, **sample: Any) -> str:
    """Queue a training; gives its id."""
    settings = {
        "output_name": name,
        "max_train_epochs": epochs,
        "dataset": {"folder": str(pictures), "resolution": 64, "min_bucket_reso": 64},
        "network": {"rank": 4, "alpha": 4.0},
        "optimizer": {"optimizer": "AdamW", "learning_rate": 1e-2},
        "sample": sample,
    }
    return forge.post("/lazylora/start", {"settings": settings}, headers={"Origin": forge.address})["id"]


def status(forge: WebuiClient) -> dict[str, Any]:
    return forge.get("/lazylora/status")


def wait_until(forge: WebuiClient, is_so: Callable[[dict[str, Any]], bool], timeout: float = 600) -> dict[str, Any]:
    """The first status of which this is so. Raises WebuiError with the last words of the server."""

    def look() -> dict[str, Any] | None:
        now = status(forge)
        assert not now["error"], now["error"]
        return now if is_so(now) else None

    return eventually(look, timeout, lambda: f"never: {status(forge)}; {forge.log_tail()}")


def is_idle(now: dict[str, Any]) -> bool:
    return now["state"] == "idle"


def test_a_generation_gets_its_turn_at_an_epochs_end_and_changes_nothing(forge: WebuiClient, pictures: Path):
    before = forge.txt2img()
    start(forge, pictures, "shared", epochs=12, prompts=["a red square"], every_n_epochs=6, steps=1)
    bars: list[float] = []
    waited_at: list[int] = []
    first = wait_until(forge, lambda now: now["state"] == "running" and now["step"] >= 1)
    assert first["total_steps"] == 36
    generated: list[Image.Image] = []
    person = threading.Thread(target=lambda: generated.append(forge.txt2img()))
    person.start()
    while person.is_alive():
        now = status(forge)
        waited_at += [now["step"]] if now["state"] == "waiting" else []
        bars.append(forge.progress()["progress"])
        time.sleep(0.1)
    assert generated[0].tobytes() == before.tobytes(), "the training shows in another's picture"
    assert waited_at, "it was not let in before the run was over"
    assert all(step % 3 == 0 and step < 36 for step in waited_at), "not at an epoch's end"
    assert all(0 <= bar <= 1 for bar in bars), bars
    done = wait_until(forge, is_idle)
    assert done["step"] == 36
    names = sorted(path.name for path in (forge.loras / "shared").glob("*.safetensors"))
    assert names == [f"shared-{epoch:06}.safetensors" for epoch in range(1, 13)]
    assert forge.txt2img().tobytes() == before.tobytes()
    # its own name is known at once, and in the list without a refresh
    listed = {each["name"] for each in forge.get("/sdapi/v1/loras")}
    assert {name.removesuffix(".safetensors") for name in names} <= listed
    assert forge.txt2img("a cat on a wall <lora:shared-000012:1>").tobytes() != before.tobytes()
    assert forge.txt2img().tobytes() == before.tobytes()


def test_interrupt_stops_within_a_step_and_resume_goes_on(forge: WebuiClient, pictures: Path):
    before = forge.txt2img()
    entry = start(forge, pictures, "cut", epochs=40)
    running = wait_until(forge, lambda now: now["state"] == "running" and now["step"] >= 4)
    forge.interrupt()
    stopped = wait_until(forge, is_idle, timeout=60)
    assert stopped["step"] <= running["step"] + 2, "it went on"
    assert forge.txt2img().tobytes() == before.tobytes()
    assert (forge.loras / "cut" / "cut-000001.safetensors").exists()
    forge.post("/lazylora/resume", {"id": entry}, headers={"Origin": forge.address})
    again = wait_until(forge, lambda now: now["state"] == "running" and now["step"] > stopped["step"])
    assert again["total_steps"] == stopped["total_steps"]
    forge.post("/lazylora/stop", {}, headers={"Origin": forge.address})
    wait_until(forge, is_idle, timeout=60)
    assert forge.txt2img().tobytes() == before.tobytes()


def test_interrupt_reaches_into_a_preview(forge: WebuiClient, pictures: Path):
    start(forge, pictures, "long", epochs=1, prompts=["a red square"] * 10, steps=150)
    epoch = forge.loras / "long" / "long-000001.safetensors"
    eventually(epoch.exists, 300, forge.log_tail)
    time.sleep(2)  # into the first preview of many minutes
    forge.interrupt()
    wait_until(forge, is_idle, timeout=60)
