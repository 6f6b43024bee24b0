"""ΔW is one and the same on every path: hooked on, merged in, saved; and so are its gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trainer_core.config import NetworkConfig
from trainer_core.networks import ALGORITHMS
from trainer_core.networks.base import Algorithm, Layer

LAYERS = {
    "linear": lambda bias: nn.Linear(24, 40, bias=bias),
    "1x1 conv": lambda bias: nn.Conv2d(24, 40, 1, bias=bias),
    "3x3 conv": lambda bias: nn.Conv2d(24, 40, 3, padding=1, bias=bias),
    "3x3 conv, stride 2": lambda bias: nn.Conv2d(24, 40, 3, stride=2, padding=1, bias=bias),
    "dilated 3x3 conv": lambda bias: nn.Conv2d(24, 40, 3, padding=2, dilation=2, bias=bias),
    "circular 3x3 conv": lambda bias: nn.Conv2d(24, 40, 3, padding=1, padding_mode="circular", bias=bias),
    "rectangular conv": lambda bias: nn.Conv2d(24, 40, (1, 3), padding=(0, 1), bias=bias),
}
ALGOS = [name for name, algorithm in ALGORITHMS if algorithm(NetworkConfig()).reaches_matrices]
CHANGE_OUTPUTS = ("ia3", "diag-oft", "boft")  # instead of adding to them
every_layer = pytest.mark.parametrize("kind", LAYERS)
every_algo = pytest.mark.parametrize("algo", ALGOS)


def example(algo: str, kind: str, bias: bool = True, dtype: torch.dtype = torch.float64):
    """A layer with an adapter that is not zero, and an input; alpha ≠ rank, conv_rank ≠ rank."""
    torch.manual_seed(7)
    module = LAYERS[kind](bias).to(dtype).requires_grad_(False)
    config = NetworkConfig(algo=algo, rank=10, alpha=2.5, conv_rank=20, conv_alpha=5, block_size=5)
    algorithm = ALGORITHMS.get(algo)(config)
    layer = Layer(module, *algorithm.size(module))
    start = algorithm.init(layer, torch.Generator().manual_seed(1))
    weights = {name: (each + 0.3 * torch.randn(each.shape)).to(dtype).requires_grad_() for name, each in start.items()}
    x = torch.randn(3, 5, 24, dtype=dtype) if kind == "linear" else torch.randn(2, 24, 9, 7, dtype=dtype)
    return algorithm, layer, weights, x.requires_grad_()


def merged(algorithm: Algorithm, layer: Layer, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    delta_bias = algorithm.delta_bias(layer, weights)
    changed = {"weight": layer.module.weight + algorithm.delta(layer, weights)}
    if delta_bias is not None:
        changed["bias"] = layer.module.bias + delta_bias
    return torch.func.functional_call(layer.module, changed, (x,))


@every_algo
@every_layer
@pytest.mark.parametrize("bias", [True, False])
def test_hooked_forward_is_the_base_with_delta_merged(algo: str, kind: str, bias: bool) -> None:
    algorithm, layer, weights, x = example(algo, kind, bias)
    hooked = algorithm.forward(layer, weights, x, layer.module(x), seed=None)
    torch.testing.assert_close(hooked, merged(algorithm, layer, weights, x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(hooked, layer.module(x))


@every_algo
@every_layer
def test_gradients_are_those_of_the_merged_layer(algo: str, kind: str) -> None:
    algorithm, layer, weights, x = example(algo, kind)
    wanted = [x, *weights.values()]
    hooked = algorithm.forward(layer, weights, x, layer.module(x), seed=None)
    plain = merged(algorithm, layer, weights, x)
    direction = torch.randn_like(plain)
    ours = torch.autograd.grad((hooked * direction).sum(), wanted)
    theirs = torch.autograd.grad((plain * direction).sum(), wanted)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-11)


@every_algo
@every_layer
def test_delta_is_zero_at_the_start(algo: str, kind: str) -> None:
    algorithm, layer, *_ = example(algo, kind)
    start = algorithm.init(layer, torch.Generator().manual_seed(1))
    assert set(start) <= set(algorithm.suffixes)
    assert all(each.dtype == torch.float32 and each.device.type == "cpu" for each in start.values())
    assert algorithm.delta(layer, start).count_nonzero() == 0
    assert algorithm.delta(layer, start).shape == layer.module.weight.shape


@every_algo
@pytest.mark.parametrize("kind", ["linear", "3x3 conv"])
def test_bf16_base_keeps_updates_that_are_too_small_for_its_weights(algo: str, kind: str) -> None:
    """ΔW of a thousandth of W's spacing is lost when it is added to bf16 weights; hooked on, it is not."""
    algorithm, layer, weights, x = example(algo, kind)
    start = algorithm.init(layer, torch.Generator().manual_seed(1))
    small = {name: each.detach() * (1 if start[name].any() else 1e-2) for name, each in weights.items()}
    exact = merged(algorithm, layer, small, x.detach()) - layer.module(x.detach())
    half = Layer(copy.deepcopy(layer.module).bfloat16(), layer.rank, layer.alpha)
    # as output of the base something that shows the adapter's part alone: nothing, or itself in a wider type
    base = layer.module(x.detach()).float() if algo in CHANGE_OUTPUTS else torch.zeros_like(exact).bfloat16()
    hooked = algorithm.forward(half, {n: w.bfloat16() for n, w in small.items()}, x.detach().bfloat16(), base, None)
    assert hooked.dtype == base.dtype
    assert (hooked.double() - base - exact).norm() / exact.norm() < 0.01


@every_algo
@pytest.mark.parametrize("kind", ["linear", "1x1 conv", "3x3 conv"])
@pytest.mark.parametrize("base_dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_fp32_weights_on_any_base_give_the_bases_dtype(algo: str, kind: str, base_dtype: torch.dtype) -> None:
    if base_dtype == torch.float16 and not hasattr(torch, "uint16"):
        pytest.skip("torch before 2.3 computes no fp16 on the CPU")
    algorithm, layer, weights, x = example(algo, kind)
    base = Layer(copy.deepcopy(layer.module).to(base_dtype), layer.rank, layer.alpha)
    x = x.detach().to(base_dtype)
    masters = {name: each.detach().float().requires_grad_() for name, each in weights.items()}
    hooked = algorithm.forward(base, masters, x, base.module(x), seed=None)
    assert hooked.dtype == base_dtype
    hooked.float().square().mean().backward()
    assert all(each.grad is not None and each.grad.dtype == torch.float32 for each in masters.values())


@every_algo
def test_under_autocast_the_products_are_autocasts(algo: str) -> None:
    algorithm, layer, weights, x = example(algo, "linear", dtype=torch.float32)
    plain = algorithm.forward(layer, weights, x, layer.module(x), seed=None)
    with torch.autocast("cpu", torch.bfloat16):
        cast = algorithm.forward(layer, weights, x, layer.module(x), seed=None)
    assert cast.dtype == torch.bfloat16
    torch.testing.assert_close(cast.float(), plain, rtol=0.05, atol=0.05)


def test_alpha_zero_means_rank() -> None:
    for algo in ("lora", "locon"):
        algorithm = ALGORITHMS.get(algo)(NetworkConfig(algo=algo, rank=4, alpha=0))
        module = nn.Linear(8, 8)
        assert Layer(module, *algorithm.size(module)).scale == 1


def test_locon_takes_rank_and_alpha_for_convolutions_unless_told_otherwise() -> None:
    conv, pointwise = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)
    plain = ALGORITHMS.get("locon")(NetworkConfig(algo="locon", rank=4, alpha=2))
    told = ALGORITHMS.get("locon")(NetworkConfig(algo="locon", rank=4, alpha=2, conv_rank=8, conv_alpha=1))
    assert plain.size(conv) == (4, 2) and plain.size(pointwise) == (4, 2)
    assert told.size(conv) == (8, 1) and told.size(pointwise) == (4, 2)


def test_the_start_is_kohyas_kaiming_uniform() -> None:
    algorithm = ALGORITHMS.get("lora")(NetworkConfig(rank=64))
    for module in (nn.Linear(200, 300), nn.Conv2d(24, 300, 3)):
        layer = Layer(module, *algorithm.size(module))
        down = algorithm.init(layer, torch.Generator().manual_seed(0))["lora_down.weight"]
        torch.manual_seed(0)
        reference = nn.init.kaiming_uniform_(torch.empty_like(down), a=5**0.5)
        assert torch.equal(down, reference)
