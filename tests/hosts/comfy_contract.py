"""Checks of ComfyHost inside a real ComfyUI's interpreter; test_comfy_contract.py runs this file and reads its results.

Call: python comfy_contract.py COMFYUI_DIR PACK CHECKPOINTS RESULTS [CHECK ...]. Every check gets a freshly loaded
model, made in inference mode as nodes make it, and works on a thread of its own, as training does."""

from __future__ import annotations

import copy
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TEXT_LAYERS = 3
SIDE = 64  # pixels
CHECKS: dict[str, Callable[[Path], None]] = {}


def check(*kinds: str) -> Callable:
    """File a check under its name and each kind of checkpoint: it is called with that checkpoint's path."""

    def file_away(function: Callable[[Path], None]) -> Callable[[Path], None]:
        for kind in kinds:
            CHECKS[f"{function.__name__}[{kind}]"] = function
        return function

    return file_away


def kind_of(name: str) -> str:
    """The kind of checkpoint that a check's name asks for."""
    return name.rpartition("[")[2].removesuffix("]")


# ---------------------------------------------------------------- what the checks look at


@dataclass
class Loaded:
    """MODEL, CLIP and VAE as a loader node gives them, and the host that borrows them."""

    model: Any
    clip: Any
    vae: Any

    @property
    def host(self) -> Any:
        from trainer_core.hosts.comfy import ComfyHost

        return ComfyHost(self.model, self.clip, self.vae)


def load(path: Path, text_dtype: Any = None) -> Loaded:
    import torch
    from tiny_loader import load_tiny

    with torch.inference_mode():
        return Loaded(*load_tiny(path, TEXT_LAYERS, text_dtype))


def picture(loaded: Loaded, seed: int = 5) -> Any:
    """Pixels [H, W, 3] made the way a graph makes them: CLIPTextEncode, KSampler, VAEDecode."""
    import torch

    import nodes

    with torch.inference_mode():
        encode = nodes.CLIPTextEncode().encode
        positive, negative = encode(loaded.clip, "a cat on a wall")[0], encode(loaded.clip, "")[0]
        empty = {"samples": torch.zeros(1, 4, SIDE // 8, SIDE // 8)}
        latent = nodes.common_ksampler(
            loaded.model, seed, 2, 3.0, "euler", "normal", positive, negative, empty, denoise=1.0
        )[0]
        return loaded.vae.decode(latent["samples"])[0].clone()


def on_a_thread(work: Callable[[], Any]) -> Any:
    """Run outside inference mode and raise what it raises."""
    outcome: list[Any] = [None, None]

    def run() -> None:
        try:
            outcome[0] = work()
        except BaseException as error:
            outcome[1] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def state_of(loaded: Loaded) -> dict[str, Any]:
    """Everything of the host that training might leave changed, weights included."""
    import torch
    from comfy import model_management

    state: dict[str, Any] = {
        "in_training": getattr(model_management, "in_training", None),
        "throw": model_management.throw_exception_if_processing_interrupted,
        "grad": torch.is_grad_enabled(),
    }
    for part, root in (("model", loaded.model.model), ("clip", loaded.clip.cond_stage_model)):
        for name, module in root.named_modules():
            own = {key: module.__dict__.get(key) for key in ("forward", "comfy_cast_weights")}
            hooks = len(module._forward_hooks), len(module._forward_pre_hooks)
            state[f"{part} {name}"] = (own, hooks, module.training)
        for name, weight in root.named_parameters():
            state[f"{part} {name} flags"] = (weight.requires_grad, weight.dtype, weight.device, weight.grad is None)
            state[f"{part} {name} bytes"] = hash(weight.detach().flatten().view(torch.uint8).numpy().tobytes())
    for part in (loaded.model, loaded.clip.patcher):
        state[f"{type(part.model).__name__} patcher"] = (len(part.patches), len(part.backup), len(part.object_patches))
    return state


def require_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = [key for key in before if before[key] != after.get(key)] + [key for key in after if key not in before]
    assert not changed, f"changed: {changed[:5]}"


def all_components(host: Any) -> list[str]:
    return list(host.components())


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


# ---------------------------------------------------------------- what the host says of the model


@check("sd1", "sd2", "sdxl")
def check_family_and_process(path: Path) -> None:
    import torch
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    from trainer_core.diffusion.process import scaled_linear_alphas

    loaded = load(path)
    assert loaded.host.family.name == path.stem
    assert loaded.host.name.startswith("ComfyUI 0.")
    process = loaded.host.process
    assert process.prediction == "epsilon"
    torch.testing.assert_close(process.alphas_cumprod, scaled_linear_alphas(), rtol=1e-4, atol=1e-6)
    with torch.inference_mode():
        patch = ModelSamplingDiscrete()
        patched = getattr(patch, "patch", None) or (lambda *args: ModelSamplingDiscrete.execute(*args).args)
        velocity = replace(loaded, model=patched(loaded.model, "v_prediction", True)[0])
        lcm = replace(loaded, model=patched(loaded.model, "lcm", False)[0])
    assert velocity.host.process.prediction == "v_prediction"
    assert velocity.host.process.alphas_cumprod[-1] < 1e-6, "zero terminal SNR is not followed"
    require_refusal(lambda: lcm.host.process, "another process")


@check("sdxl_velocity")
def check_a_velocity_checkpoint_is_known_as_one(path: Path) -> None:
    process = load(path).host.process
    assert process.prediction == "v_prediction"
    assert process.alphas_cumprod[-1] < 1e-6


@check("sd1", "sdxl")
def check_fingerprints_tell_weights_apart_and_see_through_loras(path: Path) -> None:
    import torch
    from comfy import model_management

    loaded = load(path)
    host = loaded.host
    before, vae = host.fingerprint(), host.vae_fingerprint()
    assert before == loaded.host.fingerprint()
    with torch.inference_mode():
        key = "diffusion_model.out.2.weight"
        patched = loaded.model.clone()
        patched.add_patches({key: ("diff", (torch.ones_like(loaded.model.model.diffusion_model.out[2].weight),))})
        model_management.load_models_gpu([patched])
        weight = loaded.model.model.diffusion_model.out[2].weight
        assert not torch.equal(weight, loaded.model.backup[key].weight), "the patch was not worked in"
    assert host.fingerprint() == before, "a LoRA of another clone changes the fingerprint"
    with torch.inference_mode():
        loaded.vae.first_stage_model.taesd_decoder[1].weight.add_(0.1)
        loaded.clip.cond_stage_model.clip_l.transformer.text_model.final_layer_norm.weight.add_(0.1)
    assert host.vae_fingerprint() != vae
    assert host.fingerprint() != before


# ---------------------------------------------------------------- what it refuses


def require_refusal(attempt: Callable[[], Any], words: str) -> None:
    from trainer_core.errors import HostError

    try:
        attempt()
    except HostError as error:
        assert words in str(error), f"refused in other words: {error}"
    else:
        raise AssertionError(f"not refused: {words}")


def borrow(host: Any, components: list[str] | None = None, **options: Any) -> Any:
    settings = {"precision": "auto", "checkpointing": False, **options}
    return host.borrowed(components or all_components(host), **settings)


def enter(host: Any) -> None:
    with borrow(host):
        pass


@check("sd1_inpaint")
def check_inpainting_models_are_refused(path: Path) -> None:
    require_refusal(lambda: load(path).host.family, "9 channels")


@check("sdxl")
def check_another_familys_text_encoder_is_refused(path: Path) -> None:
    from trainer_core.hosts.comfy import ComfyHost

    big, small = load(path), load(path.with_name("sd1.safetensors"))
    require_refusal(lambda: ComfyHost(big.model, small.clip, big.vae).components(), "does not belong")
    require_refusal(lambda: ComfyHost(small.model, big.clip, big.vae).components(), "does not belong")


@check("sd1")
def check_what_cannot_be_trained_is_refused(path: Path) -> None:
    import torch

    from trainer_core.errors import HostError
    from trainer_core.hosts.comfy import ComfyHost

    loaded = load(path)
    with torch.inference_mode():
        require_refusal(lambda: enter(loaded.host), "inference mode")
    require_refusal(lambda: ComfyHost(loaded.model, None, loaded.vae), "CLIP is missing")

    with torch.inference_mode():
        patched = replace(loaded, model=loaded.model.clone())
        weight = loaded.model.model.diffusion_model.out[2].weight
        patched.model.add_patches({"diffusion_model.out.2.weight": ("diff", (torch.ones_like(weight),))})
    require_refusal(lambda: on_a_thread(lambda: enter(patched.host)), "carries a LoRA")
    tolerant = ComfyHost(patched.model, patched.clip, patched.vae, allow_patched=True)
    on_a_thread(lambda: enter(tolerant))

    on_a_thread(lambda: enter(loaded.host))  # loads the model without the patch
    before = state_of(loaded)
    layer = loaded.model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1.to_q
    kept = layer.weight
    layer.weight = torch.nn.Parameter(kept.detach().to(torch.float8_e4m3fn), requires_grad=False)
    require_refusal(lambda: on_a_thread(lambda: enter(loaded.host)), "quantised weights")
    layer.weight = kept
    require_same_state(before, state_of(loaded))
    try:
        on_a_thread(lambda: enter(loaded.host))
    except HostError as error:
        raise AssertionError("still refused") from error


# ---------------------------------------------------------------- equal to what the host computes


CAPTIONS = ("a cat", "", "a (very) long \\(dog\\), 1girl, [brackets]: 3 + 4, ünïcode", "word " * 75)


@check("sd1", "sd2", "sdxl")
def check_texts_are_encoded_as_the_sampler_sees_them(path: Path) -> None:
    import torch

    from trainer_core.hosts.base import TextOptions

    loaded = load(path)
    host = loaded.host

    def theirs(caption: str, layer: int | None) -> tuple[Any, Any]:
        with torch.inference_mode():
            clip = loaded.clip.clone()
            clip.clip_layer(layer)
            tokens = clip.tokenize(caption, disable_weights=True)
            encoded = clip.encode_from_tokens_scheduled(tokens)[0]
            return encoded[0].clone(), encoded[1]["pooled_output"].clone()

    def compare() -> None:
        layers = {"sd1": {1: None, 2: -2}, "sd2": {1: None}, "sdxl": {1: None, 2: None}}[path.stem]
        for trained in (["unet"], all_components(host)):
            with borrow(host, trained):
                for clip_skip, layer in layers.items():
                    ours = host.encode_texts(CAPTIONS, TextOptions(1, clip_skip))
                    assert ours.tokens.requires_grad is False, "no adapter is attached"
                    for number, caption in enumerate(CAPTIONS):
                        tokens, pooled = theirs(caption, layer)
                        assert distance(ours.tokens[number], tokens[0]) < 1e-4, (caption, clip_skip, trained)
                        if host.family.has_sizes:
                            assert distance(ours.pooled[number], pooled[0]) < 1e-4, caption
                long = "a long caption of many words, " * 14  # 98 tokens: two chunks
                ours = host.encode_texts([long, "short"], TextOptions(2, 1))
                assert distance(ours.tokens[0], theirs(long, layers[1])[0][0]) < 1e-4
                assert ours.tokens.shape[1] == 154
                assert host.encode_texts(["a cat"], TextOptions(3, 1)).tokens.shape[1] == 231

    on_a_thread(compare)


@check("sd1", "sdxl")
def check_images_are_encoded_as_vae_encode_does(path: Path) -> None:
    import torch

    loaded = load(path)
    host = loaded.host
    pixels = torch.rand(2, 3, SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def ours() -> Any:
        with borrow(host, ["unet"]):
            latents = host.encode_images(pixels)
            assert latents.dtype == torch.float32
            assert not latents.is_inference()
            return latents

    with torch.inference_mode():
        theirs = loaded.model.model.process_latent_in(loaded.vae.encode((pixels.movedim(1, -1) + 1) / 2)).clone()
    assert distance(on_a_thread(ours), theirs) < 1e-5


@check("sd1", "sdxl")
def check_predictions_are_the_samplers(path: Path) -> None:
    """The sampler's wrapper gives x0 for a σ-scaled input; inverted, that is the raw prediction."""
    import torch

    from trainer_core.hosts.base import TextOptions

    loaded = load(path)
    host = loaded.host
    dice = torch.Generator().manual_seed(0)
    x_t, t = torch.randn(2, 4, 8, 12, generator=dice), torch.tensor([120, 810])
    sizes = torch.tensor([[64, 96, 0, 0, 64, 96], [512, 500, 8, 4, 64, 96]])

    def compare() -> None:
        model = loaded.model.model
        with borrow(host), torch.no_grad():
            cond = host.encode_texts(["a cat", "a dog"], TextOptions())
            cond = cond.sized(sizes) if host.family.has_sizes else cond
            ours = host.predict(x_t, t, cond)
            sigma = model.model_sampling.sigma(t)
            x = x_t * (sigma.view(-1, 1, 1, 1) ** 2 + 1).sqrt()
            extra = {}
            if host.family.has_sizes:
                names = ("height", "width", "crop_h", "crop_w", "target_height", "target_width")
                rows = [dict(zip(names, row)) for row in sizes.tolist()]
                pooled = [{"pooled_output": cond.pooled[number : number + 1]} for number in range(2)]
                extra["y"] = torch.cat([model.encode_adm(**row, **text) for row, text in zip(rows, pooled)])
            denoised = model.apply_model(x, sigma, c_crossattn=cond.tokens, **extra)
            assert distance(ours, (x - denoised) / sigma.view(-1, 1, 1, 1)) < 1e-3

    on_a_thread(compare)


# ---------------------------------------------------------------- gradients


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


def plain_gradients(loaded: Loaded, network: Any) -> dict[str, Any]:
    """key → gradient by plain autograd: copies of the host's modules, called by their own code, with W + ΔW as weights.

    The in-place residuals of the copies are left as they are; autograd is told to keep what they overwrite."""
    import torch
    from torch.func import functional_call
    from torch.nn import functional as F

    host, case = loaded.host, gradient_case(loaded.host)
    copies = {name: copy.deepcopy(module) for name, module in host.components().items()}
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

    encoders = dict(zip([name for name in copies if name != "unet"], sd_clip_models(loaded)))

    def encode(component: str, caption: str) -> tuple[Any, Any]:
        encoder = encoders[component]
        letter = {"te1": "l", "te2": "g"}[component]
        tokens = [token for token, _ in loaded.clip.tokenize(caption)[letter][0]]
        outputs = functional_call(
            copies[component],
            weights[component],
            (torch.tensor([tokens]),),
            {
                "num_tokens": [tokens.index(49407) + 1],
                "intermediate_output": encoder.layer_idx,
                "final_layer_norm_intermediate": encoder.layer_norm_hidden_state,
                "dtype": torch.float32,
            },
        )
        return (outputs[0] if encoder.layer == "last" else outputs[1]), outputs[2]

    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        rows = []
        for caption in case["captions"]:
            parts = [encode(component, caption) for component in encoders]
            rows.append((torch.cat([hidden for hidden, _ in parts], dim=-1), parts[-1][1]))
        extra = {}
        if host.family.has_sizes:
            adm = [loaded.model.model.encode_adm(width=128, height=128, pooled_output=pooled) for _, pooled in rows]
            extra["y"] = torch.cat(adm)
        prediction = functional_call(
            copies["unet"],
            weights["unet"],
            (case["x_t"], case["t"].float()),
            {"context": torch.cat([hidden for hidden, _ in rows]), "transformer_options": {}, **extra},
        )
        F.mse_loss(prediction, case["target"]).backward()
    return {key: leaf.grad for key, leaf in leaves.items()}


def sd_clip_models(loaded: Loaded) -> list[Any]:
    stage = loaded.clip.cond_stage_model
    stage.reset_clip_options()
    return [getattr(stage, name) for name in ("clip_l", "clip_g") if hasattr(stage, name)]


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
    """bf16 on fp32 weights: ComfyUI's casting layers do it."""
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


# ---------------------------------------------------------------- given back as it was


class OutOfMemory(RuntimeError):
    """Stands in for the device's own."""


@check("sd1", "sdxl")
def check_the_model_is_given_back_whatever_happens(path: Path) -> None:
    import torch

    loaded = load(path)
    host = loaded.host
    first = picture(loaded)
    before = state_of(loaded)

    def use(error: BaseException | None) -> None:
        with borrow(host, checkpointing=True):
            network = random_network(host, all_components(host))
            with network.attached():
                hooked_step(host, network)
                if error is not None:
                    raise error

    for error in (None, ValueError("x"), OutOfMemory("x"), KeyboardInterrupt(), GeneratorExit()):
        try:
            on_a_thread(lambda error=error: use(error))
        except BaseException as raised:
            assert raised is error
        require_same_state(before, state_of(loaded))
        assert torch.equal(picture(loaded), first), f"another picture after {error!r}"
    assert not torch.equal(picture(loaded, seed=6), first), "all pictures are alike"


def hooked_step(host: Any, network: Any) -> None:
    from torch.nn import functional as F

    from trainer_core.hosts.base import TextOptions

    case = gradient_case(host)
    cond = host.encode_texts(case["captions"], TextOptions())
    cond = cond.sized(case["sizes"]) if host.family.has_sizes else cond
    F.mse_loss(host.predict(case["x_t"], case["t"], cond), case["target"]).backward()


@check("sd1")
def check_cancel_is_left_to_the_node(path: Path) -> None:
    from comfy import model_management

    from trainer_core.hosts.comfy import interrupted

    loaded = load(path)
    host = loaded.host

    def work() -> None:
        with borrow(host):
            network = random_network(host, all_components(host))
            with network.attached():
                model_management.interrupt_current_processing(True)
                hooked_step(host, network)
                assert interrupted(), "the flag was used up"

    on_a_thread(work)
    try:
        model_management.throw_exception_if_processing_interrupted()
    except model_management.InterruptProcessingException:
        return
    raise AssertionError("ComfyUI's own cancel is broken")


# ---------------------------------------------------------------- whole runs


def dataset_of(folder: Path) -> Path:
    """Four plain pictures with captions."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(("red", "green", "blue", "yellow")):
        Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {colour} square")
    return folder


def run_config(folder: Path, **changes: Any) -> Any:
    from trainer_core.config import DatasetConfig, NetworkConfig, OptimizerConfig, SampleConfig, TrainConfig

    config = TrainConfig(
        output_name="square",
        output_dir=str(folder / "loras"),
        dataset=DatasetConfig(folder=str(dataset_of(folder / "pictures")), resolution=SIDE, min_bucket_reso=SIDE),
        network=NetworkConfig(rank=4, alpha=4.0),
        optimizer=OptimizerConfig(optimizer="AdamW", learning_rate=1e-2),
        sample=SampleConfig(prompts=("a red square",), steps=2, cfg=3.0),
        max_train_epochs=2,
        save_precision="fp32",
    )
    return replace(config, **changes)


@check("sd1", "sdxl")
def check_the_base_model_is_untouched_by_whole_runs(path: Path) -> None:
    import torch

    from trainer_core.events import Finished, Saved, Stepped
    from trainer_core.job import Job
    from trainer_core.train import train

    loaded = load(path)
    first, before = picture(loaded), state_of(loaded)

    def require_untouched(after_what: str) -> None:
        require_same_state(before, state_of(loaded))
        assert torch.equal(picture(loaded), first), f"another picture after {after_what}"

    def run(config: Any, host: Any) -> Iterator[Any]:
        job = Job(lambda: train(config, host)).start()
        for event in job:
            yield event
            if isinstance(event, Stepped) and event.step == stop_at[0]:
                job.cancel()

    stop_at = [3]
    config = run_config(path.parent / f"run_{path.stem}")
    cancelled = list(run(config, loaded.host))
    assert not any(isinstance(event, Finished) for event in cancelled)
    require_untouched("a cancel")

    host = loaded.host
    predict, calls = host.predict, [0]

    def failing(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise OutOfMemory("no more memory")
        return predict(*args)

    stop_at[0] = -1
    host.predict = failing
    try:
        list(run(config, host))
    except OutOfMemory:
        pass
    else:
        raise AssertionError("the failure was swallowed")
    require_untouched("a failure")

    events = list(run(config, loaded.host))
    require_untouched("a whole run")
    assert isinstance(events[-1], Finished)
    assert len(events[-1].epochs) == 2
    assert 0 < events[-1].trained_steps < 8, "it did not go on from where it was stopped"
    saved = [event for event in events if isinstance(event, Saved)][-1]
    assert not any(event for event in list(run(config, loaded.host)) if isinstance(event, Stepped)), "trained twice"
    require_untouched("a finished run's return")
    report(f"{events[-1].trained_steps} steps after the stop; {saved.path.name}")


@check("sd1", "sdxl")
def check_previews_equal_the_saved_lora_in_lora_loader(path: Path) -> None:
    """Live adapters and the exported file in ComfyUI's own loader make the same picture: names, alpha, scale, dtype."""
    import comfy.sd
    import torch

    loaded = load(path, torch.float32)  # in fp16 ComfyUI's loader rounds W + ΔW, which a random model magnifies
    host = loaded.host
    plain = picture(loaded)

    def adapted() -> tuple[Any, Any]:
        with borrow(host):
            network = random_network(host, all_components(host), strength=0.003)
            with network.attached():
                return picture(loaded), network.state_dict(torch.float32)

    live, tensors = on_a_thread(adapted)
    with torch.inference_mode():
        model, clip = comfy.sd.load_lora_for_models(loaded.model, loaded.clip, tensors, 1.0, 1.0)
    exported = picture(Loaded(model, clip, loaded.vae))
    effect, gap = (live - plain).abs().max().item(), (live - exported).abs().max().item()
    report(f"effect {effect * 255:.1f}/255, gap {gap * 255:.2f}/255")
    assert effect > 10 / 255, "the adapters have no effect"
    assert gap <= 1 / 255
    assert torch.equal(picture(loaded), plain)


@check("sd1", "sdxl")
def check_samples_are_pictures_of_the_asked_size(path: Path) -> None:
    from trainer_core.hosts.base import SampleRequest

    loaded = load(path)
    host = loaded.host

    def work() -> None:
        request = SampleRequest("a cat", "", 2 * SIDE, SIDE, steps=2, cfg=2.0, seed=1)
        with borrow(host, ["unet"]):
            first, again = host.sample(request), host.sample(request)
            other = host.sample(replace(request, seed=2))
        assert first.size == (2 * SIDE, SIDE)
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != other.tobytes()

    on_a_thread(work)


# ---------------------------------------------------------------- running them


_notes: list[str] = []


def report(note: str) -> None:
    """Put a measured number beside the check's result."""
    _notes.append(note)


def run_check(name: str, path: Path) -> dict[str, Any]:
    _notes.clear()
    started = time.monotonic()
    failure = ""
    try:
        CHECKS[name](path)
    except BaseException:
        failure = traceback.format_exc()
    return {"name": name, "failure": failure, "notes": list(_notes), "seconds": round(time.monotonic() - started, 1)}


def main(comfy: Path, pack: Path, checkpoints: Path, results: Path, wanted: list[str]) -> None:
    """Run the wanted checks, each result a line of JSON in `results`."""
    # ComfyUI's folder first and the pack's last: both have a module called nodes
    sys.argv = ["main.py", "--cpu"]
    sys.path.insert(0, str(comfy))
    sys.path.append(str(pack))
    import comfy.options

    comfy.options.enable_args_parsing()
    for name in wanted:
        with results.open("a") as file:
            file.write(json.dumps(run_check(name, checkpoints / f"{kind_of(name)}.safetensors")) + "\n")


if __name__ == "__main__":
    main(*(Path(each) for each in sys.argv[1:5]), sys.argv[5:] or list(CHECKS))
