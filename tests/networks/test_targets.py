"""Layers of a host's own classes: which count as Linear, and that adapters compute on them as on nn.Linear."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainer_core.config import NetworkConfig
from trainer_core.errors import HostError
from trainer_core.networks import ALGORITHMS
from trainer_core.networks.base import Layer
from trainer_core.networks.targets import find_targets, is_linear

ALGOS = [name for name, algorithm in ALGORITHMS if algorithm(NetworkConfig()).reaches_matrices]


class HostLinear(nn.Module):
    """As Forge has it: the attributes of nn.Linear, and not its base."""

    def __init__(self, plain: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


class Packed(nn.Module):
    """As a quantised layer has it: a matrix of another shape than it says."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = 8, 4
        self.weight = nn.Parameter(torch.zeros(16, 1), requires_grad=False)


def test_a_hosts_own_linear_is_found():
    component = nn.ModuleDict({"layer": HostLinear(nn.Linear(8, 4)), "norm": nn.LayerNorm(4)})
    found = find_targets(component, {"layer": "layer"}, lambda _: True)
    assert [target.module for target in found] == [component["layer"]]


def test_a_linear_without_a_weight_is_none():
    empty = HostLinear(nn.Linear(8, 4))
    empty.weight = None
    assert not is_linear(empty)
    assert not find_targets(nn.ModuleDict({"layer": empty}), {"layer": "layer"}, lambda _: True)


def test_a_packed_layer_is_refused():
    with pytest.raises(HostError, match="layer is a Packed"):
        find_targets(nn.ModuleDict({"layer": Packed()}), {"layer": "layer"}, lambda _: True)


@pytest.mark.parametrize("algo", ALGOS)
def test_adapters_compute_on_it_as_on_nn_linear(algo: str):
    torch.manual_seed(7)
    plain = nn.Linear(24, 40).requires_grad_(False)
    algorithm = ALGORITHMS.get(algo)(NetworkConfig(algo=algo, rank=10, alpha=2.5, rank_dropout=0.2, block_size=5))
    layers = [Layer(module, *algorithm.size(module)) for module in (plain, HostLinear(plain))]
    start = algorithm.init(layers[0], torch.Generator().manual_seed(1))
    weights = {name: each + 0.3 * torch.randn(each.shape) for name, each in start.items()}
    x = torch.randn(3, 5, 24)
    first, second = (algorithm.forward(each, weights, x, each.module(x), seed=4) for each in layers)
    assert torch.equal(first, second)
    assert torch.equal(*(algorithm.delta(each, weights) for each in layers))
