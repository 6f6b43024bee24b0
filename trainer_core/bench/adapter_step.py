"""What an adapter costs: one SD 1.5 transformer block forward and backward, ours against lycoris-lora's, in turns."""

from __future__ import annotations

import copy
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from ..families import SD1
from ..networks import build_network

# name → our settings and LyCORIS's for the same adapter; ranks as people use them
ADAPTERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": ({"algo": "lora"}, {"algo": "lora"}),
    "dora": ({"algo": "lora", "dora_wd": True}, {"algo": "lora", "dora_wd": True, "wd_on_output": False}),
    "loha": ({"algo": "loha", "rank": 4}, {"algo": "loha", "linear_dim": 4}),
    "lokr": ({"algo": "lokr", "rank": 4, "factor": 8}, {"algo": "lokr", "linear_dim": 4, "factor": 8}),
    "lokr full": (
        {"algo": "lokr", "factor": 8, "full_matrix": True},
        {"algo": "lokr", "factor": 8, "full_matrix": True},
    ),
    "ia3": ({"algo": "ia3", "preset": "attn-mlp"}, {"algo": "ia3"}),
    "dylora": ({"algo": "dylora"}, {"algo": "dylora", "block_size": 4}),
    "glora": ({"algo": "glora"}, {"algo": "glora"}),
    "diag-oft": ({"algo": "diag-oft"}, {"algo": "diag-oft"}),
    "boft": ({"algo": "boft"}, {"algo": "boft"}),
    "full": ({"algo": "full"}, {"algo": "full"}),
}
RANK = 16


@dataclass(frozen=True)
class _Contender:
    adapter: str
    implementation: str
    step: Callable[[], None]


def measure_adapter_steps(rounds: int = 5, tokens: int = 1024, device: str = "cpu") -> list[dict[str, Any]]:
    """One row per adapter and implementation: the median milliseconds of a forward and backward.

    tokens: of the picture; 1024 are SD 1.5's at 256×256. Every contender has the block's same weights and meets the
    same conditions, in turns. `base` is the block without an adapter. ratio_to_lora: to our plain LoRA; time_ratio:
    ours to LyCORIS's default forward; bypass_ratio: ours to its bypass forward. Where LyCORIS raises, it has no row."""
    contenders = [*_contenders(tokens, device)]
    milliseconds: list[list[float]] = [[] for _ in contenders]
    for each in contenders:
        each.step()
    for _ in range(rounds):
        for contender, times in zip(contenders, milliseconds, strict=True):
            times.append(_timed(contender.step, device))
    return _rows(contenders, milliseconds)


def _contenders(tokens: int, device: str) -> Iterator[_Contender]:
    block = _block(device)
    yield _Contender("base", "none", _step(block, tokens, device))
    for name, (ours, theirs) in ADAPTERS.items():
        yield _Contender(name, "ours", _our_step(copy.deepcopy(block), ours, tokens, device))
        for implementation, bypass in (("lycoris", False), ("lycoris bypass", True)):
            if bypass and theirs.get("dora_wd"):
                continue  # its bypass forward leaves DoRA out
            try:
                step = _lycoris_step(copy.deepcopy(block), {**theirs, "bypass_mode": bypass}, tokens, device)
                step()
            except Exception as error:  # some of its forwards raise: there is nothing to compare with
                logging.getLogger(__name__).info("%s, %s: %s", name, implementation, error)
                continue
            yield _Contender(name, implementation, step)


def _block(device: str) -> nn.Module:
    """The highest resolution's transformer block, with what SD 1.5 has: 320 channels, 8 heads, 768-wide texts."""
    from diffusers.models.attention import BasicTransformerBlock

    torch.manual_seed(0)
    block = BasicTransformerBlock(320, 8, 40, cross_attention_dim=768, activation_fn="geglu")
    return block.to(device).requires_grad_(False)


def _our_step(block: nn.Module, settings: dict[str, Any], tokens: int, device: str) -> Callable[[], None]:
    config = NetworkConfig(**{"rank": RANK, "alpha": RANK, **settings})
    network = build_network(config, {"unet": _as_unet(block)}, SD1, seed=0, device=device)
    _shake([each for group in network.groups() for each in group.parameters.values()])
    step = _step(block, tokens, device)

    def attached() -> None:
        with network.attached():
            step()

    return attached


def _lycoris_step(block: nn.Module, settings: dict[str, Any], tokens: int, device: str) -> Callable[[], None]:
    from lycoris import LycorisNetwork, create_lycoris

    logging.getLogger("LyCORIS").setLevel(logging.ERROR)
    LycorisNetwork.apply_preset({"target_module": ["BasicTransformerBlock", "Attention", "FeedForward", "GEGLU"]})
    network = create_lycoris(block, 1.0, **{"linear_dim": RANK, "linear_alpha": RANK, **settings}).to(device)
    network.apply_to()
    _shake(list(network.parameters()))
    return _step(block, tokens, device)


def _as_unet(block: nn.Module) -> nn.Module:
    """A model in which the block has a name that the adapters know."""
    unet, level, attention = nn.Module(), nn.Module(), nn.Module()
    attention.transformer_blocks = nn.ModuleList([block])
    level.attentions = nn.ModuleList([attention])
    unet.down_blocks = nn.ModuleList([level])
    return unet


def _shake(parameters: list[nn.Parameter]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=1e-3)


def _step(block: nn.Module, tokens: int, device: str) -> Callable[[], None]:
    x = torch.randn(1, tokens, 320, device=device, requires_grad=True)
    texts = torch.randn(1, 77, 768, device=device)
    direction: Tensor = torch.randn(1, tokens, 320, device=device)

    def step() -> None:
        block(x, encoder_hidden_states=texts).backward(direction)

    return step


def _timed(step: Callable[[], None], device: str) -> float:
    _finish(device)
    started = time.perf_counter()
    step()
    _finish(device)
    return (time.perf_counter() - started) * 1e3


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _rows(contenders: list[_Contender], milliseconds: list[list[float]]) -> list[dict[str, Any]]:
    times = {(each.adapter, each.implementation): spent for each, spent in zip(contenders, milliseconds, strict=True)}
    rows = []
    for (adapter, implementation), spent in times.items():
        row: dict[str, Any] = {
            "adapter": adapter,
            "implementation": implementation,
            "milliseconds": round(statistics.median(spent), 3),
            "ratio_to_lora": _ratio(spent, times["lora", "ours"]),
        }
        if implementation == "ours":
            for name, other in (("time_ratio", "lycoris"), ("bypass_ratio", "lycoris bypass")):
                if (adapter, other) in times:
                    row[name] = _ratio(spent, times[adapter, other])
        rows.append(row)
    return rows


def _ratio(ours: list[float], theirs: list[float]) -> float:
    # taken round by round, so that a machine that slows down midway slows both
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)
