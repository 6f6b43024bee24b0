"""The promises of the borrowing contract one by one, on modules built like ComfyUI's; needs no ComfyUI."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainer_core.errors import HostError
from trainer_core.hosts.borrowing import checkpointable_blocks, frozen, thaw
from trainer_core.hosts.checkpointing import checkpointed
from trainer_core.hosts.comfy_borrow import cast_to_compute, out_of_place_residuals
from trainer_core.hosts.comfy_model import require_plain_weights


class Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, optimized_attention: object = None) -> Tensor:
        return self.out(x).tanh()


class CLIPLayer(nn.Module):
    """Adds its residuals in place, as ComfyUI's does."""

    def __init__(self, width: int):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn, self.mlp = Attention(width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, optimized_attention: object = None) -> Tensor:
        x += self.self_attn(self.layer_norm1(x), mask, optimized_attention)
        x += self.mlp(self.layer_norm2(x))
        return x


def text_encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), CLIPLayer(8), CLIPLayer(8))


def gradients(model: nn.Module) -> list[Tensor]:
    model.zero_grad()
    model(torch.ones(2, 3, 8)).square().sum().backward()
    return [weight.grad.clone() for weight in model.parameters()]


def test_in_place_residuals_cannot_be_trained_through_and_ours_can():
    model = text_encoder()
    with pytest.raises(RuntimeError, match="inplace"):
        gradients(model)
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        expected = gradients(model)
    with out_of_place_residuals([model]):
        plain = gradients(model)
        with checkpointed(checkpointable_blocks({"te1": model})):
            recomputed = gradients(model)
    for ours, again, theirs in zip(plain, recomputed, expected):
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(again, theirs)


def test_out_of_place_residuals_give_the_same_bits_and_leave_no_trace():
    model, x = text_encoder(), torch.randn(2, 3, 8)
    with torch.no_grad():
        before = model(x)
        with out_of_place_residuals([model]):
            inside = model(x)
    assert torch.equal(inside, before)
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_text_layers_of_another_build_are_refused():
    model = text_encoder()
    model[1].layer_norm3 = nn.LayerNorm(8)
    with pytest.raises(HostError, match="unknown"), out_of_place_residuals([model]):
        pass


def test_thawed_weights_can_be_trained_through_and_are_equal():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).eval(), nn.Linear(4, 4))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    x = torch.randn(2, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="Inference tensors"):
        model(x).sum().backward()
    thaw([model])
    weights = list(model.parameters())
    model(x).sum().backward()
    assert x.grad is not None
    for name, each in model.state_dict().items():
        assert torch.equal(each, before[name]), name
    thaw([model])
    assert all(new is old for new, old in zip(model.parameters(), weights)), "replaced what needed no replacing"


def test_frozen_weights_ask_for_no_gradient_and_get_their_flags_back():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].bias.requires_grad_(False)
    flags = [weight.requires_grad for weight in model.parameters()]
    with pytest.raises(ValueError, match="x"), frozen([model]):
        assert not any(weight.requires_grad for weight in model.parameters())
        raise ValueError("x")
    assert [weight.requires_grad for weight in model.parameters()] == flags


def test_only_layers_of_another_dtype_are_cast_and_their_own_setting_comes_back():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).half(), nn.Linear(4, 4).half())
    for layer in model:
        layer.comfy_cast_weights = False
    with cast_to_compute([model], torch.float32):
        assert [layer.comfy_cast_weights for layer in model] == [False, True, True]
    assert [layer.comfy_cast_weights for layer in model] == [False, False, False]


def test_quantised_weights_are_refused_by_name():
    model = nn.Sequential(nn.Linear(4, 4))
    require_plain_weights({"unet": model})
    model[0].weight = nn.Parameter(model[0].weight.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(HostError, match=r"unet has quantised weights \(0\.weight: float8_e4m3fn\)"):
        require_plain_weights({"unet": model})
