"""Every algorithm goes through a whole run: trained, stopped and resumed, saved, read back, and off the model again."""

from __future__ import annotations

import pytest
import torch

from tests.core.test_train import assert_same_weights, base_weights, of_kind, stop_after, weights_of
from trainer_core.events import Measured
from trainer_core.networks import ALGORITHMS, build_network
from trainer_core.train import train

NETWORKS = {
    **{name: {"algo": name} for name in ALGORITHMS.names()},
    "norm": {"algo": "norm", "train_text_encoder": False},
    "ia3 on outputs": {"algo": "ia3", "train_on_input": False},
    "boft, rescaled": {"algo": "boft", "rescaled": True, "constraint": 0.01},
    "lora and norms": {"algo": "lora", "train_norm": True},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_stops_resumes_and_is_read_back(tiny_host, make_config, name: str) -> None:
    """In bf16 under gradient checkpointing, as most people train."""
    network = {"rank": 8, "module_dropout": 0.1, **NETWORKS[name]}
    common = {"max_train_epochs": 1, "mixed_precision": "bf16", "gradient_checkpointing": True, "network": network}
    before = base_weights(tiny_host)
    whole = list(train(make_config(output_name="whole", **common), tiny_host))
    config = make_config(output_name="parts", **common)
    stop_after(config, tiny_host, 2)
    rest = list(train(config, tiny_host))
    (ours,), (theirs,) = weights_of(rest), weights_of(whole)
    assert_same_weights(ours, theirs)
    after = base_weights(tiny_host)
    assert all(torch.equal(after[key], before[key]) for key in before)
    measured = [each for event in of_kind(whole, Measured) for each in event.measurements]
    assert len(measured) == 5 and all(each.loss < 10 for each in measured)

    read_back = build_network(config.network, tiny_host.components(), tiny_host.family, seed=99)
    read_back.load_state_dict(ours)
    deltas = read_back.delta_weights().values()
    assert all(delta.isfinite().all() for delta in deltas) and any(delta.any() for delta in deltas)
