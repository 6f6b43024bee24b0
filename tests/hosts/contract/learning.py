"""Random adapters and one step on them, as training takes it."""

from __future__ import annotations

from typing import Any

from .loaded import Loaded, borrow


def random_network(host: Any, components: list[str], strength: float = 0.02, seed: int = 3) -> Any:
    """LoCon adapters with ΔW ≠ 0 on everything."""
    import torch

    from trainer_core.config import NetworkConfig
    from trainer_core.networks.network import build_network

    config = NetworkConfig(algo="locon", rank=4, alpha=2.0)
    chosen = {name: module for name, module in host.components().items() if name in components}
    network = build_network(config, chosen, host.family, seed, host.device)
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensors in network.parameters_by_component().values():
            for name, tensor in tensors.items():
                if "lora_up" in name:
                    tensor.copy_(torch.randn(tensor.shape, generator=dice) * strength)
    return network


def gradient_case(host: Any) -> dict[str, Any]:
    import torch

    dice = torch.Generator().manual_seed(1)
    return {
        "captions": ["a cat on a wall", "a dog"],
        "x_t": torch.randn(2, 4, 16, 16, generator=dice),
        "t": torch.tensor([200, 700]),
        "target": torch.randn(2, 4, 16, 16, generator=dice),
        "sizes": torch.tensor([[128, 128, 0, 0, 128, 128]] * 2),
    }


def hooked_gradients(loaded: Loaded, components: list[str], checkpointing: bool) -> tuple[dict[str, Any], Any]:
    """key → gradient by the host as training uses it, and the network."""
    from torch.nn import functional as F

    from trainer_core.hosts.base import TextOptions

    host, case = loaded.host, gradient_case(loaded.host)
    with borrow(host, components, checkpointing=checkpointing):
        network = random_network(host, components)
        with network.attached():
            cond = host.encode_texts(case["captions"], TextOptions())
            cond = cond.sized(case["sizes"]) if host.family.has_sizes else cond
            F.mse_loss(host.predict(case["x_t"], case["t"], cond), case["target"]).backward()
    tensors = {key: each for group in network.parameters_by_component().values() for key, each in group.items()}
    return {key: None if each.grad is None else each.grad.clone() for key, each in tensors.items()}, network


def hooked_step(host: Any, network: Any) -> None:
    from torch.nn import functional as F

    from trainer_core.hosts.base import TextOptions

    case = gradient_case(host)
    cond = host.encode_texts(case["captions"], TextOptions())
    cond = cond.sized(case["sizes"]) if host.family.has_sizes else cond
    F.mse_loss(host.predict(case["x_t"], case["t"], cond), case["target"]).backward()
