"""scale_weight_norms cuts ΔW to a length, as kohya does, and leaves what is short enough."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer_core.config import NetworkConfig
from trainer_core.families import SD1
from trainer_core.networks import Network, build_network
from trainer_core.networks.max_norm import MaxNorm

SETTINGS = [
    {"algo": "lora"},
    {"algo": "locon", "use_tucker": True},
    {"algo": "loha", "conv_rank": 2},
    {"algo": "lokr", "rank": 1, "factor": 2},
    {"algo": "lokr", "rank": 1, "decompose_both": True},
    {"algo": "lora", "dora_wd": True},
]


def network_of(components, strength: float, **settings) -> Network:
    network = build_network(NetworkConfig(**{"rank": 4, "alpha": 2.0, **settings}), components, SD1, seed=1)
    dice = torch.Generator().manual_seed(0)
    for number, adapter in enumerate(network.adapters):
        for suffix, parameter in adapter.parameters.items():
            if suffix != "dora_scale":
                parameter.data.copy_(strength * (1 + number) * torch.randn(parameter.shape, generator=dice))
    return network


def lengths(network: Network) -> dict[str, float]:
    """‖ΔW‖ before DoRA, from the tensors themselves."""
    found = {}
    for adapter in network.adapters:
        plain = getattr(adapter.algorithm, "_algorithm", adapter.algorithm)
        with torch.no_grad():
            found[adapter.key] = plain.delta(adapter.layer, adapter.parameters).norm().item()
    return found


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_long_changes_are_cut_to_the_length_and_short_ones_stay(settings, components) -> None:
    network = network_of(components, 0.2, **settings)
    before = lengths(network)
    longest = 1.001 * sorted(before.values())[len(before) // 2]
    kept = {key: each.clone() for key, each in network.delta_weights().items()}
    MaxNorm(network, longest).apply()
    for key, after in lengths(network).items():
        assert after == pytest.approx(min(before[key], longest), rel=1e-5)
        if before[key] <= longest:
            assert torch.equal(network.delta_weights()[key], kept[key])


def test_both_factors_of_a_lora_take_the_root_of_the_ratio_as_in_kohya(components) -> None:
    network = network_of(components, 1.0, algo="lora")
    adapter = network.adapters[0]
    up, down = (adapter.parameters[f"lora_{side}.weight"].detach().clone() for side in ("up", "down"))
    ratio = 0.5 / (0.5 * up.flatten(1) @ down.flatten(1)).norm()  # scale is alpha / rank = 0.5
    MaxNorm(network, 0.5).apply()
    torch.testing.assert_close(adapter.parameters["lora_up.weight"].detach(), up * ratio.sqrt())
    torch.testing.assert_close(adapter.parameters["lora_down.weight"].detach(), down * ratio.sqrt())


def test_adapters_that_are_no_product_are_left_alone(components) -> None:
    network = network_of(components, 1.0, algo="ia3")
    before = network.state_dict()
    MaxNorm(network, 1e-3).apply()
    assert all(torch.equal(each, before[key]) for key, each in network.state_dict().items())


class Reads(TorchDispatchMode):
    """Counts the host's reads of tensor values."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "item", "is_nonzero")
        return func(*args, **(kwargs or {}))


def test_it_never_waits_for_the_device(components) -> None:
    max_norm = MaxNorm(network_of(components, 1.0, algo="locon"), 0.5)
    with Reads() as reads:
        max_norm.apply()
    assert reads.count == 0
