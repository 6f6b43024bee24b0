"""What every test shares: marked tests are skipped, with the reason, where the machine lacks what they need."""

from __future__ import annotations

import functools
import os

import hypothesis
import pytest

# Small tensors gain nothing from threads, and lose much where the cores are busy. Read when torch is imported first.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples everywhere, and no deadline: a busy machine is not a failure.
hypothesis.settings.register_profile("lazylora", deadline=None, derandomize=True)
hypothesis.settings.load_profile("lazylora")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests without a CUDA device, `webui` tests without any; `comfy` fixtures look for themselves."""
    for item in items:
        if item.get_closest_marker("gpu") and not has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if item.get_closest_marker("webui") and not (os.environ.get("FORGE_DIR") or os.environ.get("A1111_DIR")):
            item.add_marker(pytest.mark.skip(reason="no A1111 or Forge: set A1111_DIR or FORGE_DIR to its folder"))


@functools.cache
def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()
