"""The grid of epochs on the diffusers host: what a LoRA's strength means, and that the model comes back as it was."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer_core.errors import RunError
from trainer_core.files.lora_file import load_lora
from trainer_core.hosts.base import SampleRequest
from trainer_core.hosts.diffusers import DiffusersHost
from trainer_core.hosts.venue import GridRequest
from trainer_core.networks.network import build_network
from trainer_core.plan import trained_components
from trainer_core.standalone.epoch_files import find_epoch
from trainer_core.standalone.epoch_grid import epoch_grid, merged
from trainer_core.train import train

REQUEST = GridRequest("a thing", "", seed=3, steps=2, cfg=4.0, width=64, height=64, epochs=["", "thing-000002"])


@pytest.fixture
def trained(tiny_host: DiffusersHost, make_config) -> Path:
    """The folder of runs, with one of two epochs."""
    list(train(make_config(optimizer={"learning_rate": 3e-2}), tiny_host))
    return Path(make_config().output_dir)


def weights_of(host: DiffusersHost) -> str:
    digest = hashlib.sha256()
    for module in host.components().values():
        for tensor in module.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def test_a_column_for_each_epoch_and_a_row_for_each_strength(tiny_host: DiffusersHost, trained: Path):
    before = weights_of(tiny_host)
    epochs = {"thing-000002": find_epoch("thing-000002", trained)}
    one = epoch_grid(tiny_host, REQUEST, epochs)
    three = epoch_grid(tiny_host, replace(REQUEST, weights=(0.0, 0.5, 1.0)), epochs)
    assert three.height > 2 * one.height
    assert weights_of(tiny_host) == before
    assert np.array_equal(np.asarray(one), np.asarray(epoch_grid(tiny_host, REQUEST, epochs)))


def test_full_strength_is_what_was_trained_and_none_is_the_model(tiny_host: DiffusersHost, trained: Path):
    epoch = find_epoch("thing-000002", trained)
    request = SampleRequest("a thing", "", 64, 64, 2, 4.0, 3)
    components = tiny_host.components()
    wanted = {name: components[name] for name in trained_components(epoch.config, list(components))}
    with tiny_host.borrowed([], "fp32", False):
        plain = np.asarray(tiny_host.sample(request), dtype=int)
        network = build_network(epoch.config.network, wanted, tiny_host.family, epoch.config.seed)
        network.load_state_dict(load_lora(epoch.path)[0])
        with network.attached(), network.without_randomness():
            hooked = np.asarray(tiny_host.sample(request), dtype=int)
        with merged(network, 1.0):
            full = np.asarray(tiny_host.sample(request), dtype=int)
        with merged(network, 0.0):
            none = np.asarray(tiny_host.sample(request), dtype=int)
    assert np.abs(hooked - plain).max() > 3
    assert np.abs(full - hooked).max() <= 1
    assert np.array_equal(none, plain)


def test_the_weights_are_given_back_after_an_error(tiny_host: DiffusersHost, trained: Path):
    before = weights_of(tiny_host)
    epochs = {"thing-000002": find_epoch("thing-000002", trained)}
    with pytest.raises(ValueError):
        epoch_grid(tiny_host, replace(REQUEST, width=63), epochs)  # the pipeline refuses it in the middle
    assert weights_of(tiny_host) == before


def test_an_epoch_says_what_it_was_trained_with(trained: Path):
    epoch = find_epoch("thing-000001", trained)
    assert (epoch.config.network.rank, epoch.model) == (4, "tiny")
    with pytest.raises(RunError, match='no epoch "thing-000009"'):
        find_epoch("thing-000009", trained)
