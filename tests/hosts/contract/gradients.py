"""The adapters' gradients against plain autograd on untouched copies of the model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from .learning import gradient_case, hooked_gradients, random_network
from .loaded import Loaded, all_components, borrow, load, on_a_thread
from .registry import check, report


def plain_gradients(loaded: Loaded, network: Any) -> dict[str, Any]:
    """key → gradient by plain autograd: copies of the host's modules, called by their own code, with W + ΔW as weights.

    The in-place residuals of the copies are left as they are; autograd is told to keep what they overwrite."""
    import torch
    from torch.func import functional_call
    from torch.nn import functional as F

    host, case = loaded.host, gradient_case(loaded.host)
    copies = {name: thawed(copy.deepcopy(module)) for name, module in host.components().items()}
    leaves: dict[str, Any] = {}
    weights: dict[str, dict[str, Any]] = {name: {} for name in copies}
    for adapter in network.adapters:
        paths = {id(module): path for path, module in host.components()[adapter.component].named_modules()}
        path = paths[id(adapter.layer.module)]
        for suffix, each in adapter.parameters.items():
            leaves[f"{adapter.key}.{suffix}"] = each.detach().clone().requires_grad_(True)
        down, up = (leaves[f"{adapter.key}.lora_{part}.weight"] for part in ("down", "up"))
        weight = copies[adapter.component].get_submodule(path).weight.detach()
        delta = (up.flatten(1) @ down.flatten(1)).view(weight.shape) * (adapter.layer.alpha / adapter.layer.rank)
        weights[adapter.component][path + ".weight"] = weight + delta

    def call(component: str, *args: Any, **kwargs: Any) -> Any:
        return functional_call(copies[component], weights[component], args, kwargs)

    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        prediction = loaded.predicted_plainly(call, case["captions"], case["x_t"], case["t"])
        F.mse_loss(prediction, case["target"]).backward()
    return {key: leaf.grad for key, leaf in leaves.items()}


def thawed(module: Any) -> Any:
    """Plain autograd cannot use weights that a host made in inference mode, either."""
    import torch

    for each in module.modules():
        for name, weight in each._parameters.items():
            if weight is not None and weight.is_inference():
                each._parameters[name] = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)
    return module


@check("sd2", host="Forge")
@check("sd1", "sdxl")
def check_gradients_equal_plain_autograds(path: Path) -> None:
    import torch

    loaded = load(path)
    components = all_components(loaded.host)

    def compare() -> None:
        ours, network = hooked_gradients(loaded, components, checkpointing=False)
        theirs = plain_gradients(loaded, network)
        assert ours.keys() == theirs.keys()
        worst, touched = 0.0, {component: 0 for component in components}
        for adapter in network.adapters:
            for suffix in adapter.parameters:
                key = f"{adapter.key}.{suffix}"
                mine, plain = ours[key], theirs[key]
                if plain is None:
                    assert mine is None or not mine.abs().max(), f"{key} has a gradient where there is none"
                    continue
                assert mine is not None, f"{key} has no gradient"
                touched[adapter.component] += 1
                error = ((mine - plain).norm() / plain.norm()).item()
                worst = max(worst, error)
                assert error < 2e-3, f"{key}: relative error {error:.2e}"
        assert all(touched.values()), touched
        recomputed, _ = hooked_gradients(loaded, components, checkpointing=True)
        again, _ = hooked_gradients(loaded, components, checkpointing=False)
        for key, mine in ours.items():
            for other in (recomputed[key], again[key]):
                assert (mine is None) == (other is None), key
                if mine is not None:
                    torch.testing.assert_close(other, mine, rtol=1e-4, atol=1e-7 + 1e-5 * mine.abs().max().item())
        report(f"{sum(touched.values())} tensors {touched}, worst relative error {worst:.1e}")

    on_a_thread(compare)


@check("sd1")
def check_the_text_encoder_alone_can_learn(path: Path) -> None:
    loaded = load(path)

    def learn() -> None:
        ours, _ = hooked_gradients(loaded, ["te1"], checkpointing=True)
        assert ours
        assert all(each is not None and each.abs().max() > 0 for each in ours.values())

    on_a_thread(learn)


@check("sd1")
def check_half_precision_gradients_are_near(path: Path) -> None:
    """bf16 on fp32 weights: the host's own casting layers do it."""
    import torch
    from torch.nn import functional as F

    from trainer_core.hosts.base import TextOptions

    loaded = load(path)
    host, case = loaded.host, gradient_case(loaded.host)

    def gradients(precision: str) -> Any:
        with borrow(host, ["unet", "te1"], precision=precision) as dtype:
            assert dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
            network = random_network(host, ["unet", "te1"])
            with network.attached():
                prediction = host.predict(case["x_t"], case["t"], host.encode_texts(case["captions"], TextOptions()))
                F.mse_loss(prediction, case["target"]).backward()
        groups = network.parameters_by_component().values()
        return torch.cat([each.grad.flatten() for group in groups for each in group.values() if each.grad is not None])

    def compare() -> None:
        likeness = F.cosine_similarity(gradients("bf16"), gradients("fp32"), dim=0).item()
        report(f"cosine {likeness:.4f}")
        assert likeness > 0.98

    on_a_thread(compare)
