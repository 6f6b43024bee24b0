"""The model is given back as it was, whatever happens while it is borrowed."""

from __future__ import annotations

from pathlib import Path

from .learning import hooked_step, random_network
from .loaded import all_components, borrow, load, on_a_thread, require_same_state
from .registry import check


class OutOfMemory(RuntimeError):
    """Stands in for the device's own."""


@check("sd1", "sdxl")
def check_the_model_is_given_back_whatever_happens(path: Path) -> None:
    import torch

    loaded = load(path)
    host = loaded.host
    first = loaded.picture()
    before = loaded.state()

    def use(error: BaseException | None) -> None:
        with borrow(host, checkpointing=True):
            network = random_network(host, all_components(host))
            with network.attached():
                hooked_step(host, network)
                if error is not None:
                    raise error

    for error in (None, ValueError("x"), OutOfMemory("x"), KeyboardInterrupt(), GeneratorExit()):
        try:
            on_a_thread(lambda error=error: use(error))
        except BaseException as raised:
            assert raised is error
        require_same_state(before, loaded.state())
        assert torch.equal(loaded.picture(), first), f"another picture after {error!r}"
    assert not torch.equal(loaded.picture(seed=6), first), "all pictures are alike"


@check("sd1", host="ComfyUI")
def check_cancel_is_left_to_the_node(path: Path) -> None:
    from comfy import model_management

    from trainer_core.hosts.comfy import interrupted

    loaded = load(path)
    host = loaded.host

    def work() -> None:
        with borrow(host):
            network = random_network(host, all_components(host))
            with network.attached():
                model_management.interrupt_current_processing(True)
                hooked_step(host, network)
                assert interrupted(), "the flag was used up"

    on_a_thread(work)
    try:
        model_management.throw_exception_if_processing_interrupted()
    except model_management.InterruptProcessingException:
        return
    raise AssertionError("ComfyUI's own cancel is broken")
