"""What a run says that it will take is near what it takes."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from trainer_core.config import DatasetConfig, NetworkConfig, OptimizerConfig, TrainConfig
from trainer_core.data.batches import Batch
from trainer_core.events import Finished, Planned, Prepared, Stepped, Warned
from trainer_core.families.sd1 import SD1
from trainer_core.footprint import Footprint, activation_bytes, in_words, largest_batch, too_large
from trainer_core.hosts.checkpointing import checkpointed
from trainer_core.learner import Learner
from trainer_core.networks.network import build_network
from trainer_core.train import train

SIDE = 32  # of the latent


def kept_for_backward(unet, checkpointing: bool) -> int:
    """Bytes of everything that autograd holds after a forward pass with adapters, weights not counted."""
    network = build_network(NetworkConfig(train_text_encoder=False), {"unet": unet}, SD1, 0)
    weights = [*unet.parameters(), *(each for adapter in network.adapters for each in adapter.parameters.values())]
    apart = {each.untyped_storage().data_ptr() for each in weights}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    blocks = [each for each in unet.modules() if type(each).__name__ in ("BasicTransformerBlock", "ResnetBlock2D")]
    x, t, text = torch.randn(2, 4, SIDE, SIDE), torch.zeros(2, dtype=torch.int64), torch.randn(2, 77, 32)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with network.attached(), checkpointed(blocks) if checkpointing else nullcontext(), hooks:
        output = unet(x, t, text).sample
    assert output.requires_grad
    return sum(each.untyped_storage().nbytes() for place, each in kept.items() if place not in apart)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_near_what_autograd_keeps(make_pipeline, checkpointing):
    unet = make_pipeline().unet.eval().requires_grad_(False)
    reckoned = activation_bytes({"unet": unet}, 2 * SIDE * SIDE, 2, 1, torch.float32, checkpointing)
    kept = kept_for_backward(unet, checkpointing)
    if checkpointing:  # and in the backward pass the inside of one block on top of what is kept
        assert kept < reckoned < 2 * kept
    else:
        assert reckoned == pytest.approx(kept, rel=0.2)


def test_a_run_says_what_it_takes_before_its_first_step(tiny_host, make_config):
    events = list(train(make_config(max_train_epochs=1, save_precision="fp16"), tiny_host))
    kinds = [type(event) for event in events]
    assert kinds.index(Planned) < kinds.index(Prepared) < kinds.index(Stepped)
    taken = events[kinds.index(Prepared)].footprint
    finished = events[-1]
    assert isinstance(finished, Finished)
    size = finished.epochs[0][1].stat().st_size
    assert size == pytest.approx(taken.file, rel=0.2)  # a file as small as this is half metadata
    assert taken.learner == 4 * 4 * taken.parameters + _few_bytes(taken)  # AdamW: values, gradients, two moments
    unet_and_text = sum(each.numel() for module in tiny_host.components().values() for each in module.parameters())
    assert taken.weights > 4 * unet_and_text  # and the VAE
    assert taken.activations > 0
    assert f"a file of about {in_words(taken.file)} an epoch; about" in str(taken)


def test_what_a_packages_optimizer_makes_in_its_first_step_counts_before_it(make_pipeline):
    network = build_network(NetworkConfig(train_text_encoder=False), {"unet": make_pipeline().unet}, SD1, 0)
    optimizer = OptimizerConfig(optimizer="torch.optim.AdamW", learning_rate=1e-4)
    learner = Learner(TrainConfig("a", "b", DatasetConfig("c"), optimizer=optimizer), network, torch.float32)
    before = learner.size()
    learner.step(1.0)
    assert before == pytest.approx(learner.size(), rel=0.1) and learner.size() > 15 * network.count_parameters()


def _few_bytes(taken: Footprint) -> int:
    counters = taken.learner - 16 * taken.parameters
    assert 0 <= counters < 1024
    return counters


def test_a_larger_batch_and_a_larger_picture_take_more(tiny_host):
    components = tiny_host.components()

    def taken(pixels: int, captions: int, chunks: int = 1) -> int:
        return activation_bytes(components, pixels, captions, chunks, torch.bfloat16, False)

    assert taken(2 * 4096, 2) == pytest.approx(2 * taken(4096, 1))
    assert taken(4 * 4096, 1) > 2 * taken(4096, 1)
    assert taken(4096, 1, chunks=3) > taken(4096, 1)
    assert largest_batch([Batch((64, 64), (0, 1), (0, 0)), Batch((128, 64), (2,), (0,))]) == (128, 2)
    assert largest_batch([Batch((64, 64), (0,), (0,)), Batch((128, 64), (2,), (0,))]) == (128, 1)


def test_more_than_the_device_has_is_a_warning(monkeypatch):
    taken = Footprint(parameters=1, file=1, weights=6 * 10**9, learner=10**9, activations=3 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=8 * 10**9))
    assert "about 10 GB of memory and cuda has 8 GB; turn gradient_checkpointing on" in str(
        too_large(taken, torch.device("cuda"))
    )
    assert too_large(taken, torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=16 * 10**9))
    assert too_large(taken, torch.device("cuda")) is None


@pytest.mark.parametrize(
    ("size", "words"), [(212_000, "212 KB"), (18_500_000, "18.5 MB"), (999_600_000, "1 GB"), (5_340_000_000, "5.34 GB")]
)
def test_sizes_are_words(size, words):
    assert in_words(size) == words


def test_no_warning_is_made_on_a_cpu(tiny_host, make_config):
    warnings = [event.message for event in train(make_config(), tiny_host) if isinstance(event, Warned)]
    assert not [each for each in warnings if "memory" in each]
