"""Borrowing in A1111: what it had laid over the model, fused q/k/v, and LoRAs in prompts, before and after."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from .given_back import OutOfMemory
from .in_a1111 import PROMPT, SIZES, A1111Loaded, load_with
from .learning import gradient_case, hooked_step, random_network
from .loaded import SIDE, all_components, borrow, load, on_a_thread, require_same_state
from .registry import check, report
from .runs import run_config


def gradients(host: Any, components: list[str], **options: Any) -> tuple[dict[str, Any], Any]:
    """key → gradient of one step as training takes it, on a thread of its own, and the network."""

    def learn() -> Any:
        with borrow(host, components, **options):
            network = random_network(host, components)
            with network.attached():
                hooked_step(host, network)
            return network

    network = on_a_thread(learn)
    tensors = {key: each for group in network.parameters_by_component().values() for key, each in group.items()}
    return {key: None if each.grad is None else each.grad.clone() for key, each in tensors.items()}, network


def require_equal(first: dict[str, Any], again: dict[str, Any]) -> None:
    """Gradients that are the same, bit for bit."""
    import torch

    for key, mine in first.items():
        assert (mine is None) == (again[key] is None), key
        assert mine is None or torch.equal(again[key], mine), key


@check("sd1", "sd2", "sdxl", host="A1111")
def check_gradients_equal_plain_autograds_in_a1111(path: Path) -> None:
    import torch

    loaded = load(path)
    host = loaded.host
    components = all_components(host)
    ours, network = gradients(host, components)
    theirs = on_a_thread(lambda: plain_gradients(loaded, host, network))
    assert ours.keys() == theirs.keys()
    worst, touched = 0.0, {component: 0 for component in components}
    for adapter in network.adapters:
        for suffix in adapter.parameters:
            key = f"{adapter.key}.{suffix}"
            mine, plain = ours[key], theirs[key]
            if plain is None or not plain.abs().max():
                assert mine is None or not mine.abs().max(), f"{key} has a gradient where there is none"
                continue
            assert mine is not None, f"{key} has no gradient"
            touched[adapter.component] += 1
            error = ((mine - plain).norm() / plain.norm()).item()
            worst = max(worst, error)
            assert error < 2e-3, f"{key}: relative error {error:.2e}"
    assert all(touched.values()), touched
    recomputed, _ = gradients(host, components, checkpointing=True)
    for key, mine in ours.items():
        assert (mine is None) == (recomputed[key] is None), key
        if mine is not None:
            torch.testing.assert_close(recomputed[key], mine, rtol=1e-4, atol=1e-7 + 1e-5 * mine.abs().max().item())
    report(f"{sum(touched.values())} tensors {touched}, worst relative error {worst:.1e}")


def plain_gradients(loaded: A1111Loaded, host: Any, network: Any) -> dict[str, Any]:
    """key → gradient by plain autograd: a copy of A1111's model, called by its own code, with W + ΔW as weights."""
    import torch
    from torch.func import functional_call
    from torch.nn import functional as F

    case = gradient_case(host)
    twin = copy.deepcopy(loaded.model)
    for module in twin.modules():
        for name in ("checkpoint", "use_checkpoint"):  # LDM's own checkpointing gives frozen weights no gradient
            if name in module.__dict__:
                setattr(module, name, False)
        if hasattr(module, "is_trainable"):  # sgm's conditioner records no gradient of others
            module.is_trainable = True
    leaves, deltas = _leaves(loaded, host, network)
    weights = dict(twin.named_parameters())
    changed = {
        f"model.{name}": weights[name].detach() + each.view(weights[name].shape) for name, each in deltas.items()
    }

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = twin

        def forward(self) -> Any:
            if not host.family.has_sizes:
                return self._unet(context=twin.cond_stage_model(case["captions"]))
            pairs = zip(SIZES, case["sizes"].float().split(2, dim=1))
            cond = twin.conditioner({"txt": case["captions"], **dict(pairs)})
            return self._unet(context=cond["crossattn"], y=cond["vector"])

        def _unet(self, **given: Any) -> Any:
            return twin.model.diffusion_model(case["x_t"], case["t"], **given)

    F.mse_loss(functional_call(Step(), changed, ()), case["target"]).backward()
    return {key: leaf.grad for key, leaf in leaves.items()}


def _leaves(loaded: A1111Loaded, host: Any, network: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """key → a trainable copy of the adapter's tensor; A1111's parameter → the ΔW that these copies make."""
    import torch

    places = {id(module): path for path, module in loaded.model.named_modules()}
    fused = {
        id(module): (places[id(module._fused[0])], module._rows.start // module.in_features)
        for view in host.components().values()
        for module in view.modules()
        if hasattr(module, "_fused")
    }
    leaves: dict[str, Any] = {}
    deltas: dict[str, Any] = {}
    thirds: dict[str, list[Any]] = {}
    for adapter in network.adapters:
        for suffix, each in adapter.parameters.items():
            leaves[f"{adapter.key}.{suffix}"] = each.detach().clone().requires_grad_(True)
        down, up = (leaves[f"{adapter.key}.lora_{part}.weight"] for part in ("down", "up"))
        delta = (up.flatten(1) @ down.flatten(1)) * (adapter.layer.alpha / adapter.layer.rank)
        module = adapter.layer.module
        if id(module) in fused:
            place, third = fused[id(module)]
            thirds.setdefault(f"{place}.in_proj_weight", [torch.zeros_like(delta)] * 3)[third] = delta
        else:
            deltas[f"{places[id(module)]}.weight"] = delta
    return leaves, {**deltas, **{name: torch.cat(each) for name, each in thirds.items()}}


@check("sd2", "sdxl", host="A1111")
def check_half_precision_gradients_are_near_in_a1111(path: Path) -> None:
    import torch
    from torch.nn import functional as F

    host = load(path).host

    def flat(precision: str) -> Any:
        found, _ = gradients(host, all_components(host), precision=precision)
        return torch.cat([each.flatten() for each in found.values() if each is not None])

    likeness = F.cosine_similarity(flat("bf16"), flat("fp32"), dim=0).item()
    report(f"cosine {likeness:.4f}")
    assert likeness > 0.98


@check("sd1", "sd2", "sdxl", host="A1111")
def check_previews_equal_the_saved_lora_in_a_prompt(path: Path) -> None:
    """Live adapters and the exported file in A1111's own Lora make the same picture: names, alpha, scale, dtype."""
    import numpy as np
    import torch

    from trainer_core.hosts.base import SampleRequest

    loaded = load(path)
    host = loaded.host
    request = SampleRequest(PROMPT, "", SIDE, SIDE, steps=2, cfg=3.0, seed=5)
    plain = loaded.picture()

    def preview() -> Any:
        return torch.from_numpy(np.array(host.sample(request)) / np.float32(255))

    def sampled() -> tuple[Any, Any, Any]:
        with borrow(host):
            bare = preview()
            network = random_network(host, all_components(host), strength=0.03)
            with network.attached():
                return bare, preview(), network.state_dict(torch.float32)

    bare, live, tensors = on_a_thread(sampled)
    exported = loaded.picture_with(tensors, f"live_{path.stem}")
    of_parts = {}
    for component, prefix in (("unet", "lora_unet"), ("te1", ("lora_te_", "lora_te1_")), ("te2", "lora_te2_")):
        part = {key: each for key, each in tensors.items() if key.startswith(prefix)}
        if part:
            of_parts[component] = _effect(loaded.picture_with(part, f"{component}_{path.stem}"), plain)
    report(f"effect {_effect(live, plain)}/255, of the parts {of_parts}; gap {_effect(live, exported)}")
    assert _effect(bare, plain) <= 1, "without adapters it is not txt2img's picture"
    assert _effect(live, plain) > 10, "the adapters have no effect"
    assert of_parts.keys() == set(all_components(host))
    assert all(of_parts.values()), f"a component has no effect: {of_parts}"
    assert _effect(live, exported) <= 1
    assert torch.equal(loaded.picture(), plain)


def _effect(picture: Any, plain: Any) -> int:
    return round((picture - plain).abs().max().item() * 255)


@check("sd1", "sdxl", host="A1111")
def check_a_model_that_never_made_a_picture_is_given_back(path: Path) -> None:
    """The Lora extension copies biases on a layer's first call: it must not copy those of a half-precision run."""
    import torch

    loaded = load(path)
    before = loaded.state()
    _, network = gradients(loaded.host, all_components(loaded.host), precision="bf16")
    require_same_state(before, loaded.state())
    first = loaded.picture()
    assert not torch.equal(loaded.picture_with(network.state_dict(torch.float32), "never"), first)
    assert torch.equal(loaded.picture(), first), "a LoRA that came and went left something"
    require_same_state(before, loaded.state())


@check("sd1", "sd2", "sdxl", host="A1111")
def check_the_last_generations_lora_is_taken_out_first(path: Path) -> None:
    import torch

    loaded = load(path)
    components = all_components(loaded.host)
    plain, before, identity = loaded.picture(), loaded.state(), loaded.host.fingerprint()
    clean, network = gradients(loaded.host, components)
    tensors = network.state_dict(torch.float32)
    with_lora = loaded.picture_with(tensors, "residue")
    assert not torch.equal(with_lora, plain), "the LoRA has no effect"
    assert loaded.host.fingerprint() == identity, "a merged LoRA is taken for another model"
    again, _ = gradients(loaded.host, components)
    require_equal(clean, again)
    require_same_state(before, loaded.state())
    assert torch.equal(loaded.picture_with(tensors, "residue"), with_lora), "the prompt's own LoRA is lost"
    assert torch.equal(loaded.picture(), plain)


@check("sd1", host="A1111")
def check_what_is_laid_over_the_model_is_off_meanwhile_and_on_again(path: Path) -> None:
    """Tiling, a left-over embedding and another UNet would be trained with; each is there again afterwards."""
    from modules import sd_hijack, sd_unet

    loaded = load(path)
    hijack = sd_hijack.model_hijack
    clean, _ = gradients(loaded.host, ["unet", "te1"])

    class Usurper:
        def forward(self, *_: object, **__: object) -> None:
            raise AssertionError("the other UNet was called")

    hijack.apply_circular(True)
    hijack.fixes, sd_unet.current_unet = [[], []], Usurper()
    try:
        before = loaded.state()
        again, _ = gradients(loaded.host, ["unet", "te1"])
        require_same_state(before, loaded.state())
    finally:
        hijack.fixes, sd_unet.current_unet = None, None
        hijack.apply_circular(False)
    require_equal(clean, again)


@check("sd1", "sd2", "sdxl", host="A1111")
def check_medvram_trains_and_shuttles_afterwards(path: Path) -> None:
    import torch
    from modules import lowvram, shared

    plain = load(path)
    components = all_components(plain.host)
    clean, _ = gradients(plain.host, components)
    first = plain.picture()
    loaded = load_with(path, medvram=True)
    host = loaded.host
    try:
        assert loaded.model.lowvram
        assert torch.equal(loaded.picture(), first)
        before = loaded.state()
        again, _ = gradients(host, components)
        require_same_state(before, loaded.state())
        require_equal(clean, again)
        on_a_thread(lambda: _run_out_of_memory(host))
        require_same_state(before, loaded.state())
        assert torch.equal(loaded.picture(), first)
        assert any(_is_shuttled(module) for module in loaded.model.modules()), "the parts no longer shuttle"
    finally:
        shared.cmd_opts.medvram, lowvram.module_in_gpu = False, None


def _run_out_of_memory(host: Any) -> None:
    try:
        with borrow(host):
            raise OutOfMemory("x")
    except OutOfMemory:
        pass


def _is_shuttled(module: Any) -> bool:
    return any(hook.__module__ == "modules.lowvram" for hook in module._forward_pre_hooks.values())


@check("sd1", "sdxl", host="A1111")
def check_fp8_storage_trains_and_is_given_back(path: Path) -> None:
    import torch

    loaded = load(path)
    for module in loaded.model.model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.to(torch.float8_e4m3fn)
    before = loaded.state()
    found, _ = gradients(loaded.host, ["unet"])
    assert all(each is not None and each.isfinite().all() for each in found.values())
    require_same_state(before, loaded.state())


@check("sd1", "sdxl", host="A1111")
def check_an_epoch_works_in_a_prompt_at_once(path: Path) -> None:
    import torch
    from modules import shared

    from trainer_core.events import Saved
    from trainer_core.job import Job
    from trainer_core.train import train

    loaded = load(path)
    first = loaded.picture()
    folder = path.parent / f"epoch_{path.stem}"
    config = run_config(folder, output_name=f"square_{path.stem}", output_dir=shared.cmd_opts.lora_dir)
    events = list(Job(lambda: train(config, loaded.host)).start())
    saved = [event.path.stem for event in events if isinstance(event, Saved)]
    pictures = [loaded.picture(prompt=f"{PROMPT} <lora:{stem}:1>") for stem in saved]
    assert len(saved) == 2
    assert not any(torch.equal(each, first) for each in pictures), "a saved epoch does nothing in a prompt"
    assert not torch.equal(*pictures), "the epochs are alike"
    assert torch.equal(loaded.picture(), first)
