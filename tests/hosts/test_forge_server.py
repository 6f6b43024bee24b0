"""The ground that the other tests in Forge stand on: it starts, and its pictures can be compared bit for bit."""

from __future__ import annotations

import pytest

from tests.hosts.webui_server import WebuiClient

pytestmark = [pytest.mark.webui, pytest.mark.slow]


def test_a_seed_makes_one_picture(forge: WebuiClient):
    first = forge.txt2img(seed=5)
    assert first.size == (64, 64)
    assert first.tobytes() == forge.txt2img(seed=5).tobytes()
    assert first.tobytes() != forge.txt2img(seed=6).tobytes()
    assert first.tobytes() != forge.txt2img("a dog in a car", seed=5).tobytes()
