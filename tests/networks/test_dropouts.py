"""The three dropouts: what they drop, that they keep the mean, and that a recomputed block draws the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer_core.config import NetworkConfig
from trainer_core.families import SD1
from trainer_core.networks import Network, build_network
from trainer_core.networks.base import ALGORITHMS, Layer, drawn_share, row_mask, with_dropped_ranks

X, EMB = torch.randn(2, 4, 6, 6), torch.randn(2, 16)
SETTINGS = [
    {"algo": "locon", "module_dropout": 0.5},
    {"algo": "locon", "rank_dropout": 0.5},
    {"algo": "loha", "rank_dropout": 0.3, "dropout": 0.2},
    {"algo": "lokr", "rank_dropout": 0.3, "dropout": 0.2, "module_dropout": 0.3},
    {"algo": "lora", "dora_wd": True, "rank_dropout": 0.3, "module_dropout": 0.5},
]


def network_of(components, **settings) -> Network:
    config = NetworkConfig(**{"rank": 4, "alpha": 2.0, "train_text_encoder": False, **settings})
    network = build_network(config, components, SD1, seed=1)
    dice = torch.Generator().manual_seed(0)
    for parameter in network.parameters_by_component()["unet"].values():
        parameter.data.add_(torch.randn(parameter.shape, generator=dice), alpha=0.3)
    return network


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_step_draws_again_and_a_recomputed_block_draws_the_same(settings, components) -> None:
    network, unet = network_of(components, **settings), components["unet"]

    def step(seed: int, recomputed: bool) -> tuple[Tensor, list[Tensor]]:
        network.begin(seed)
        x = X.clone().requires_grad_()
        y = checkpoint(unet, x, EMB, use_reentrant=False) if recomputed else unet(x, EMB)
        y.square().sum().backward()
        parameters = network.parameters_by_component()["unet"].values()
        gradients = [torch.zeros(()) if each.grad is None else each.grad for each in parameters]
        for each in parameters:
            each.grad = None
        return y.detach(), gradients

    with network.attached():
        plain, gradients = step(7, recomputed=False)
        again, recomputed = step(7, recomputed=True)
        other, _ = step(8, recomputed=False)
        with network.without_randomness():
            preview = unet(X, EMB)
    assert torch.equal(plain, again) and not torch.equal(plain, other) and not torch.equal(plain, preview)
    assert all(torch.equal(a, b) for a, b in zip(gradients, recomputed, strict=True))


def test_module_dropout_drops_whole_layers_at_its_rate(components) -> None:
    network = network_of(components, algo="locon", module_dropout=0.25)
    adapter = network.adapters[0]
    with network.attached(), torch.no_grad():
        module, changed = adapter.layer.module, []
        x = torch.randn(1, module.weight.shape[1], *(4,) * (module.weight.ndim - 2))
        plain = nn.Module.__call__
        with network.without_randomness():
            always = plain(module, x)
        for seed in range(400):
            network.begin(seed)
            changed.append(torch.equal(plain(module, x), always))
    assert 0.68 < sum(changed) / 400 < 0.82


def test_the_hosts_draws_are_even() -> None:
    shares = [drawn_share(seed, 2) for seed in range(4000)]
    assert min(shares) >= 0 and max(shares) < 1
    assert abs(sum(share < 0.1 for share in shares) / 4000 - 0.1) < 0.02


@pytest.mark.parametrize("channels_last", [True, False])
def test_rank_dropout_drops_whole_ranks_of_a_sample_and_keeps_the_mean(channels_last: bool) -> None:
    ones = torch.ones(64, 5, 32) if channels_last else torch.ones(64, 32, 3, 5)
    kept = with_dropped_ranks(ones, 0.25, 3, channels_last)
    by_rank = (kept.movedim(1, -1) if not channels_last else kept).reshape(
        64, -1, kept.shape[-1 if channels_last else 1]
    )
    assert torch.equal(by_rank, by_rank[:, :1].expand_as(by_rank))  # alike along a sample
    assert sorted(kept.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert abs(kept.mean().item() - 1) < 0.05
    assert not torch.equal(by_rank[0, 0], by_rank[1, 0])


def test_rows_of_lycoris_algorithms_are_dropped_for_the_whole_batch() -> None:
    mask = row_mask(1000, torch.zeros(()), 0.4, 5)
    assert mask is not None and abs((mask == 0).float().mean().item() - 0.4) < 0.05
    assert row_mask(10, torch.zeros(()), 0.4, None) is None
    for algo in ("loha", "lokr"):
        algorithm = ALGORITHMS.get(algo)(NetworkConfig(algo=algo, rank=2, rank_dropout=0.5))
        layer = Layer(nn.Linear(8, 12), *algorithm.size(nn.Linear(8, 12)))
        start = algorithm.init(layer, torch.Generator().manual_seed(1))
        weights = {name: each + torch.rand(each.shape) for name, each in start.items()}
        x = torch.randn(3, 8)
        added = algorithm.forward(layer, weights, x, torch.zeros(3, 12), 3)
        whole = algorithm.forward(layer, weights, x, torch.zeros(3, 12), None)
        is_dropped = (added == 0).all(0)
        assert 0 < is_dropped.sum() < 12
        torch.testing.assert_close(added[:, ~is_dropped], 2 * whole[:, ~is_dropped])
