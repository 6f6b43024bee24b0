"""What the host says of the model: its family, its process, and whether it is another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .loaded import TEXT_LAYERS, load
from .refused import require_refusal
from .registry import check


@check("sd1", "sd2", "sdxl", host="ComfyUI")
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


@check("sdxl_velocity", host="ComfyUI")
def check_a_velocity_checkpoint_is_known_as_one(path: Path) -> None:
    process = load(path).host.process
    assert process.prediction == "v_prediction"
    assert process.alphas_cumprod[-1] < 1e-6


@check("sd1", "sdxl", host="ComfyUI")
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


@check("sd1", "sd2", "sdxl", host="ComfyUI")
def check_clip_set_last_layer_is_followed(path: Path) -> None:
    import torch

    import nodes

    loaded = load(path)
    assert loaded.host.clip_skip == 1

    def clip_skip(layer: int) -> int:
        with torch.inference_mode():
            clip = nodes.CLIPSetLastLayer().set_last_layer(loaded.clip, layer)[0]
        return replace(loaded, clip=clip).host.clip_skip

    followed = {"sd1": {-1: 1, -2: 2, -3: 3}, "sd2": {-2: 1, -3: 2}, "sdxl": {-1: 1, -2: 1, -3: 1}}[path.stem]
    assert {layer: clip_skip(layer) for layer in followed} == followed
    assert clip_skip(-1 - TEXT_LAYERS) == 1, "ComfyUI, too, takes a layer that is not there for the last"
    if path.stem == "sd2":
        require_refusal(lambda: clip_skip(-1), "very last layer")
