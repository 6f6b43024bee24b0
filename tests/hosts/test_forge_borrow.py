"""The promises of borrowing from Forge one by one, on modules built like Forge's; needs no Forge."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer_core.errors import HostError
from trainer_core.hosts.borrowing import checkpointable_blocks, frozen, thaw
from trainer_core.hosts.checkpointing import checkpointed
from trainer_core.hosts.webui_forge_borrow import (
    cast_to_compute,
    differentiable_unet,
    fp8_unpacked,
    text_in,
)
from trainer_core.hosts.webui_forge_model import require_plain_weights


def attention_with_no_backward(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Any = None) -> Tensor:
    assert not torch.is_grad_enabled(), "the host's attention is used where gradients are recorded"
    return attention_pytorch(q, k, v, heads)


def attention_pytorch(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Any = None) -> Tensor:
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor | None = None, **_: Any) -> Tensor:
        context = x if context is None else context
        attention: Callable = sys.modules["backend.nn.unet"].attention_function
        return self.to_out(attention(self.to_q(x), self.to_k(context), self.to_v(context), 2, None))


class BasicTransformerBlock(nn.Module):
    """Adds its residuals in place, as Forge's does."""

    disable_self_attn, is_res = False, True

    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2, self.ff = CrossAttention(), CrossAttention(), nn.Linear(8, 8)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(8), nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, x: Tensor, context: Any = None, transformer_options: Any = None) -> Tensor:
        x += self.attn1(self.norm1(x))
        x += self.attn2(self.norm2(x), context=context)
        skip, x = x, self.ff(self.norm3(x))
        x += skip
        return x


@pytest.fixture(autouse=True)
def forge(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Forge's UNet module, in which attention has its name."""
    packages = {name: ModuleType(name) for name in ("backend", "backend.nn", "backend.nn.unet", "backend.attention")}
    packages["backend.nn"].unet = packages["backend.nn.unet"]
    packages["backend.nn.unet"].attention_function = attention_with_no_backward
    packages["backend.attention"].attention_pytorch = attention_pytorch
    for name, module in packages.items():
        monkeypatch.setitem(sys.modules, name, module)
    return packages["backend.nn.unet"]


def unet() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleList([BasicTransformerBlock(), BasicTransformerBlock()]).requires_grad_(False)


def through(model: Any, x: Tensor) -> Tensor:
    for block in model:
        x = block(x * 1, context=torch.ones(1, 3, 8), transformer_options={})
    return x


@pytest.mark.parametrize("recompute", [False, True])
def test_in_place_residuals_get_right_gradients(recompute: bool):
    model, x = unet(), torch.randn(2, 5, 8)
    with torch.no_grad():
        expected = through(model, x)
    plain = x.clone().requires_grad_()
    with torch.autograd.graph.allow_mutation_on_saved_tensors(), torch.enable_grad():
        sys.modules["backend.nn.unet"].attention_function = attention_pytorch
        through(model, plain).square().sum().backward()
        sys.modules["backend.nn.unet"].attention_function = attention_with_no_backward
    ours = x.clone().requires_grad_()
    blocks = checkpointable_blocks({"unet": model}) if recompute else []
    assert len(blocks) == (2 if recompute else 0)
    with differentiable_unet(model), checkpointed(blocks):
        found = through(model, ours)
        found.square().sum().backward()
        with torch.no_grad():
            assert torch.equal(through(model, x), expected), "without gradients it is the host's own forward"
    assert torch.equal(found, expected), "to the same bits"
    torch.testing.assert_close(ours.grad, plain.grad)
    assert sys.modules["backend.nn.unet"].attention_function is attention_with_no_backward
    assert not any("forward" in each.__dict__ for each in model.modules())


def test_unknown_blocks_are_refused_and_nothing_stays(forge: ModuleType):
    model: Any = unet()
    model[1].ff_in = nn.Linear(8, 8)
    with pytest.raises(HostError, match="unknown to this version"), differentiable_unet(model):
        pass
    assert forge.attention_function is attention_with_no_backward
    assert not any("forward" in each.__dict__ for each in model.modules())


def test_weights_of_inference_mode_are_thawed_once_and_stay_shared():
    with torch.inference_mode():
        inner = nn.Linear(4, 4)
        outer = nn.Module()
        outer.wrapped, outer.weight = inner, inner.weight
        outer.register_buffer("table", torch.ones(3))
    before = inner.weight.detach().clone()
    thaw([outer])
    assert not any(each.is_inference() for each in (*outer.parameters(), *outer.buffers()))
    assert outer.weight is inner.weight
    assert torch.equal(inner.weight, before)
    kept = inner.weight
    thaw([outer])
    assert inner.weight is kept


def test_fp8_is_cast_once_and_the_stored_weights_come_back():
    layer = nn.Linear(4, 4)
    stored = nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    layer.weight = stored
    with pytest.raises(ValueError, match="x"), fp8_unpacked([layer], torch.bfloat16):
        assert layer.weight.dtype == torch.bfloat16
        assert torch.equal(layer.weight.float(), stored.float())
        raise ValueError("x")
    assert layer.weight is stored


def test_layers_of_another_dtype_cast_and_others_do_not():
    half, whole = nn.Linear(4, 4).half(), nn.Linear(4, 4)
    half.parameters_manual_cast = whole.parameters_manual_cast = False
    with cast_to_compute([nn.ModuleList([half, whole])], torch.float32):
        assert (half.parameters_manual_cast, whole.parameters_manual_cast) == (True, False)
    assert half.parameters_manual_cast is False


def test_nothing_asks_for_gradients_inside():
    layer = nn.Linear(4, 4)
    with frozen([layer]):
        assert not any(each.requires_grad for each in layer.parameters())
    assert all(each.requires_grad for each in layer.parameters())


def test_text_encoders_compute_in_the_dtype_of_training():
    encoder = nn.Module()
    encoder.text_model = nn.Module()
    encoder.text_model.embeddings = nn.Embedding(4, 4)
    ids = torch.tensor([[1, 2]])
    with text_in([encoder], torch.bfloat16):
        assert encoder.text_model.embeddings(ids).dtype == torch.bfloat16
    assert encoder.text_model.embeddings(ids).dtype == torch.float32


def test_quantised_weights_are_refused_with_the_reason():
    layer = nn.Linear(4, 4)
    require_plain_weights({"unet": layer.half()})
    require_plain_weights({"unet": layer.to(torch.float8_e4m3fn)})
    layer.weight.gguf_cls = object
    with pytest.raises(HostError, match=r"unet has quantised weights \(weight: gguf\); set Diffusion in Low Bits"):
        require_plain_weights({"unet": layer})
    packed = nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    packed.quant_type = "nf4"
    layer.weight = packed
    with pytest.raises(HostError, match="nf4"):
        require_plain_weights({"unet": layer})
    scaled = nn.Linear(4, 4)
    scaled.scale_weight = nn.Parameter(torch.ones(1))
    with pytest.raises(HostError, match="scaled fp8"):
        require_plain_weights({"unet": scaled})
