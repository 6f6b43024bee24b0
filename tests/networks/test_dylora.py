"""DyLoRA trains nested ranks by seeds drawn on the host, and each stands by itself in a file of its own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.networks.test_network import build, randomize
from trainer_core.config import NetworkConfig
from trainer_core.errors import RunError
from trainer_core.networks import ALGORITHMS
from trainer_core.networks.base import Layer
from trainer_core.networks.dylora import at_rank

DOWN, UP = "lora_down.weight", "lora_up.weight"


def example(**settings):
    torch.manual_seed(0)
    module = nn.Linear(20, 24).double().requires_grad_(False)
    algorithm = ALGORITHMS.get("dylora")(NetworkConfig(algo="dylora", rank=12, alpha=5, block_size=4, **settings))
    layer = Layer(module, *algorithm.size(module), "x")
    start = algorithm.init(layer, torch.Generator().manual_seed(1))
    weights = {name: torch.randn_like(each, dtype=torch.float64).requires_grad_() for name, each in start.items()}
    return algorithm, layer, weights, torch.randn(7, 20, dtype=torch.float64)


def trained_ranks(algorithm, layer, weights, x, seed: int) -> tuple[int, ...]:
    """The ranks whose factors get a gradient, by the up factor's columns."""
    gradient = torch.autograd.grad(algorithm.forward(layer, weights, x, layer.module(x), seed).sum(), weights[UP])[0]
    return tuple(gradient.any(0).nonzero().flatten().tolist())


def test_each_seed_trains_one_block_and_all_blocks_get_their_turn() -> None:
    case = example()
    seen = [trained_ranks(*case, seed) for seed in range(60)]
    blocks = {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)}
    assert set(seen) == blocks
    assert all(10 <= seen.count(block) <= 30 for block in blocks)
    assert seen == [trained_ranks(*case, seed) for seed in range(60)]


def test_consecutive_steps_do_not_walk_through_the_blocks() -> None:
    """Seeds of steps differ by a constant; the blocks drawn from them must not be periodic."""
    case = example()
    drawn = [trained_ranks(*case, step * 0x9E3779B97F4A7C15 & (1 << 63) - 1)[0] // 4 for step in range(48)]
    assert all(drawn[:24] != drawn[shift : shift + 24] for shift in range(1, 12))


@pytest.mark.parametrize("rs_lora", [False, True])
def test_what_a_step_computes_is_the_lora_that_at_rank_cuts(rs_lora: bool) -> None:
    """kohya's forward, written out: alpha/rank · √(rank/b) · up[:, :b] · down[:b]."""
    algorithm, layer, weights, x = example(rs_lora=rs_lora)
    strength = 5 / 12**0.5 if rs_lora else 5 / 12
    file = {f"x.{name}": each.detach() for name, each in weights.items()}
    file["x.alpha"] = algorithm.constants(layer)["alpha"].double()
    seen = set()
    for seed in range(20):
        rank = trained_ranks(algorithm, layer, weights, x, seed)[-1] + 1
        seen.add(rank)
        ours = algorithm.forward(layer, weights, x, layer.module(x), seed)
        down, up = weights[DOWN][:rank], weights[UP][:, :rank]
        expected = layer.module(x) + strength * (12 / rank) ** 0.5 * F.linear(F.linear(x, down), up)
        torch.testing.assert_close(ours, expected)
        cut = at_rank(file, rank)
        as_loaded = cut["x.alpha"].item() / rank * (cut[f"x.{UP}"] @ cut[f"x.{DOWN}"])
        torch.testing.assert_close(layer.module(x) + x @ as_loaded.t(), expected, rtol=1e-6, atol=1e-6)
    assert seen == {4, 8, 12}


def test_the_whole_rank_is_the_file_itself(components) -> None:
    network = randomize(build(components, algo="dylora", rank=8))
    saved = network.state_dict()
    cut = at_rank(saved, 8)
    assert cut.keys() == saved.keys()
    assert all(torch.equal(cut[key], saved[key]) for key in saved)


def test_a_cut_file_is_a_plain_lora_of_that_rank(components) -> None:
    file = randomize(build(components, algo="dylora", rank=8)).state_dict()
    cut = at_rank(file, 4)
    plain = build(components, algo="locon", rank=4, alpha=2 * (4 / 8) ** 0.5)
    plain.load_state_dict(cut)
    key = "lora_unet_down_blocks_0_resnets_0_conv1"
    expected = 2 / 8 * 2**0.5 * (file[f"{key}.{UP}"].flatten(1)[:, :4] @ file[f"{key}.{DOWN}"].flatten(1)[:4])
    torch.testing.assert_close(plain.delta_weights()[key].flatten(1), expected)


def test_other_files_are_not_cut(components) -> None:
    with pytest.raises(RunError, match="belongs to no LoRA"):
        at_rank(build(components, algo="ia3").state_dict(), 4)
