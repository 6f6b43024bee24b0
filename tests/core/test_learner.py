"""Low-precision copies, loss scaling and clipping: what reaches the fp32 masters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer_core.optim.flat import FlatBuffer, ParamGroup
from trainer_core.optim.shadow import Shadow


def make_buffer():
    torch.manual_seed(0)
    parameters = {"a": nn.Parameter(torch.randn(3, 5)), "b": nn.Parameter(torch.randn(7))}
    return FlatBuffer([ParamGroup("unet", parameters, 1.0)])


def loss_of(weights, scale=1.0):
    return scale * (weights["unet/a"].float().square().sum() + weights["unet/b"].float().sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_of_the_copy_reach_the_masters_at_their_own_scale(dtype):
    buffer = make_buffer()
    shadow = Shadow(buffer, dtype)
    if shadow.scale is not None:
        shadow.scale.value.fill_(256.0)  # the start of 65536 overflows on gradients as large as these, and then adapts
    for _ in range(2):
        shadow.backward(loss_of(shadow.weights) / 2)
    shadow.unscale()
    for place, gradient in buffer.named(buffer.grads):
        expected = 2 * place.of(buffer.params) if place.name == "a" else torch.ones(7)
        assert torch.allclose(gradient, expected, rtol=2e-2), place.name


def test_the_copy_follows_the_masters_when_refreshed():
    buffer = make_buffer()
    shadow = Shadow(buffer, torch.bfloat16)
    with torch.no_grad():
        buffer.params.add_(1)
    shadow.refresh(torch.tensor(True))
    for place in buffer.places:
        assert torch.equal(shadow.weights[f"unet/{place.name}"], place.of(buffer.params).bfloat16())


def test_small_gradients_survive_fp16():
    buffer = make_buffer()
    shadow = Shadow(buffer, torch.float16)
    shadow.backward(loss_of(shadow.weights, 1e-9))
    shadow.unscale()
    b = next(gradient for place, gradient in buffer.named(buffer.grads) if place.name == "b")
    assert torch.allclose(b, torch.full((7,), 1e-9), rtol=0.01)


def test_the_loss_scale_halves_on_overflow_and_doubles_after_long_peace():
    shadow = Shadow(make_buffer(), torch.float16)
    scale = shadow.scale
    assert scale is not None
    start = float(scale.value)
    shadow.refresh(torch.tensor(False))
    assert float(scale.value) == start / 2
    for _ in range(scale.GROWTH_INTERVAL - 1):
        scale.adapt(torch.tensor(True))
    assert float(scale.value) == start / 2
    scale.adapt(torch.tensor(True))
    assert float(scale.value) == start


def test_fp32_needs_no_copy():
    shadow = Shadow(make_buffer(), torch.float32)
    assert not shadow.is_copy and not shadow.weights and not shadow.state_dict()
