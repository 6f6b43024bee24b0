"""Pictures that are sampled while the model is borrowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .learning import random_network
from .loaded import SIDE, all_components, borrow, load, on_a_thread
from .registry import check, report


@check("sd1", "sdxl")
def check_previews_equal_the_saved_lora_in_the_hosts_loader(path: Path) -> None:
    """Live adapters and the exported file in its own loader make the same picture: names, alpha, scale, dtype."""
    import torch

    loaded = load(path, exactly=True)
    host = loaded.host
    plain = loaded.picture()

    def adapted() -> tuple[Any, Any]:
        with borrow(host):
            network = random_network(host, all_components(host), strength=loaded.visible)
            with network.attached():
                return loaded.picture(), network.state_dict(torch.float32)

    live, tensors = on_a_thread(adapted)
    exported = loaded.picture_with(tensors)
    effect, gap = (live - plain).abs().max().item(), (live - exported).abs().max().item()
    report(f"effect {effect * 255:.1f}/255, gap {gap * 255:.2f}/255")
    assert effect > 10 / 255, "the adapters have no effect"
    assert gap * 255 < 1.01, "more than the rounding to 8 bits"
    assert torch.equal(loaded.picture(), plain)


@check("sd1", "sdxl")
def check_samples_are_pictures_of_the_asked_size(path: Path) -> None:
    from trainer_core.hosts.base import SampleRequest

    loaded = load(path)
    host = loaded.host

    def work() -> None:
        request = SampleRequest("a cat", "", 2 * SIDE, SIDE, steps=2, cfg=2.0, seed=1)
        with borrow(host, ["unet"]):
            first, again = host.sample(request), host.sample(request)
            other = host.sample(replace(request, seed=2))
        assert first.size == (2 * SIDE, SIDE)
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != other.tobytes()

    on_a_thread(work)


@check("sd1")
def check_a_sampler_stops_within_a_step(path: Path) -> None:
    from trainer_core.errors import SamplingStopped
    from trainer_core.hosts.base import SampleRequest

    loaded = load(path)
    host = loaded.host
    request = SampleRequest("a cat", "", SIDE, SIDE, steps=20, cfg=1.0, seed=1)
    asked: list[int] = []

    def cancelled_in_the_second() -> bool:
        asked.append(1)
        return len(asked) == 2

    def work() -> None:
        with borrow(host, ["unet"]):
            require_stopped(lambda: host.sample(request, cancelled_in_the_second))
            assert len(asked) == 2
            loaded.interrupt(True)
            require_stopped(lambda: host.sample(request))
            loaded.interrupt(False)
            assert host.sample(replace(request, steps=1)).size == (SIDE, SIDE)

    def require_stopped(attempt: Callable[[], Any]) -> None:
        try:
            attempt()
        except SamplingStopped:
            return
        raise AssertionError("it sampled to the end")

    on_a_thread(work)
