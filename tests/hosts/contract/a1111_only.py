"""What only A1111 has: its prompts, its settings, checkpoints of several minds, and what it cannot train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .in_a1111 import SIZES, load_with, setting
from .loaded import all_components, borrow, distance, load, on_a_thread, require_same_state
from .refused import enter, require_refusal
from .registry import check

CAPTIONS = ("a cat", "", "a (very) long dog, 1girl, [brackets]: 3 + 4", "word " * 75)
_FAMILIES = {"sd1": "sd1", "sd2": "sd2", "sdxl": "sdxl", "sd2_velocity": "sd2", "sdxl_velocity": "sdxl"}


@check(*_FAMILIES, host="A1111")
def check_the_chosen_checkpoint_is_known_in_a1111(path: Path) -> None:
    import torch

    from trainer_core.diffusion.process import scaled_linear_alphas
    from trainer_core.hosts.webui import WebuiVenue

    load(path)
    venue = WebuiVenue()
    host: Any = venue.host()
    is_velocity = path.stem.endswith("velocity")
    assert venue.name == "A1111"
    assert host.name.startswith("A1111")
    assert host.family.name == _FAMILIES[path.stem]
    assert host.model_name == path.name
    assert host.process.prediction == ("v_prediction" if is_velocity else "epsilon")
    torch.testing.assert_close(host.process.alphas_cumprod, scaled_linear_alphas(), rtol=1e-4, atol=1e-6)
    with setting("use_downcasted_alpha_bar", True), setting("sd_noise_schedule", "Zero Terminal SNR"):
        last = host.process.alphas_cumprod[-1].item()
        assert last < 1e-6 if is_velocity else last > 1e-3


@check("sd1", "sd2", "sdxl", host="A1111")
def check_layers_have_kohyas_names(path: Path) -> None:
    from trainer_core.config import NetworkConfig
    from trainer_core.networks import build_network

    host = load(path).host
    network = build_network(NetworkConfig(rank=4), host.components(), host.family, seed=0)
    keys = {adapter.key for adapter in network.adapters}
    unet = {
        "sd1": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "sd2": "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj",
        "sdxl": "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
    }
    assert unet[path.stem] in keys
    inner = ("mlp_fc1", "mlp_fc2", *(f"self_attn_{name}_proj" for name in ("k", "out", "q", "v")))
    prefixes = ("lora_te1", "lora_te2") if path.stem == "sdxl" else ("lora_te",)
    wanted = {
        f"{prefix}_text_model_encoder_layers_{layer}_{name}"
        for prefix in prefixes
        for layer in range(3)
        for name in inner
    }
    assert {key for key in keys if key.startswith("lora_te")} == wanted


@check("sd1", "sdxl", host="A1111")
def check_fingerprints_tell_weights_apart_in_a1111(path: Path) -> None:
    import torch

    loaded = load(path)
    host = loaded.host
    before, vae = host.fingerprint(), host.vae_fingerprint()
    assert (before, vae) == (loaded.host.fingerprint(), loaded.host.vae_fingerprint())
    with torch.no_grad():
        loaded.model.first_stage_model.decoder.conv_in.weight.add_(0.1)
    assert host.vae_fingerprint() != vae
    assert host.fingerprint() == before
    with torch.no_grad():
        next(host.components()["te1"].parameters()).add_(0.1)
    assert host.fingerprint() != before


@check("sd1", "sd2", "sdxl", host="A1111")
def check_the_uis_clip_skip_is_followed(path: Path) -> None:
    host = load(path).host
    with setting("CLIP_stop_at_last_layers", 2):
        assert host.clip_skip == (2 if path.stem == "sd1" else 1)
    assert host.clip_skip == 1


@check("sd1", "sd2", "sdxl", host="A1111")
def check_texts_are_encoded_as_a1111s_prompts_are(path: Path) -> None:
    from trainer_core.hosts.base import TextOptions

    loaded = load(path)
    host = loaded.host
    skips = (1, 2) if path.stem == "sd1" else (1,)
    long = "a long caption of many words " * 16  # 96 words: two chunks
    theirs = {}
    for clip_skip in skips:
        with setting("CLIP_stop_at_last_layers", clip_skip), setting("emphasis", "None"):
            theirs.update({(each, clip_skip): _encoded(loaded.model, each) for each in (*CAPTIONS, long)})

    def compare() -> None:
        for trained in (["unet"], all_components(host)):
            with borrow(host, trained):
                for clip_skip in skips:
                    ours = host.encode_texts(CAPTIONS, TextOptions(1, clip_skip))
                    assert ours.tokens.requires_grad is False, "no adapter is attached"
                    for number, caption in enumerate(CAPTIONS):
                        tokens, pooled = theirs[caption, clip_skip]
                        assert distance(ours.tokens[number], tokens) < 1e-4, (caption, clip_skip, trained)
                        if host.family.has_sizes:
                            assert distance(ours.pooled[number], pooled) < 1e-4, caption
                ours = host.encode_texts([long, "short"], TextOptions(2, 1))
                assert distance(ours.tokens[0], theirs[long, 1][0]) < 1e-4
                assert ours.tokens.shape[1] == 154
                escaped = host.encode_texts([r"a \(dog\)"], TextOptions()).tokens
                assert distance(escaped, host.encode_texts(["a (dog)"], TextOptions()).tokens) < 1e-6

    on_a_thread(compare)


def _encoded(model: Any, caption: str) -> tuple[Any, Any]:
    """Hidden states and pooled vector by A1111's own encoders."""
    import torch

    with torch.no_grad():
        if not model.is_sdxl:
            return model.cond_stage_model([caption])[0], None
        cond = model.conditioner({"txt": [caption], **{name: torch.zeros(1, 2) for name in SIZES}})
    return cond["crossattn"][0], cond["vector"][0, : -6 * 256]


@check("sd1_inpaint", host="A1111")
def check_inpainting_models_are_refused_in_a1111(path: Path) -> None:
    require_refusal(lambda: load(path).host, "9 channels")


@check("sd1", host="A1111")
def check_no_model_at_all_is_refused(path: Path) -> None:
    from modules import sd_models

    from trainer_core.hosts.webui_ldm import LdmHost

    model = load(path).model
    assert LdmHost()._model is model, "it is the loaded model that is taken"
    sd_models.model_data.sd_model = None
    require_refusal(LdmHost, "no checkpoint loaded")


@check("sdxl", host="A1111")
def check_a_refiner_is_refused(path: Path) -> None:
    loaded = load(path)
    del loaded.model.conditioner.embedders[0]
    require_refusal(lambda: loaded.host, "refiner")


@check("sd1", host="A1111")
def check_what_cannot_be_trained_is_refused_in_a1111(path: Path) -> None:
    import torch
    from modules import shared

    loaded = load(path)
    before = loaded.state()
    with torch.inference_mode():
        require_refusal(lambda: enter(loaded.host), "inference mode")
    shared.cmd_opts.lowvram = True
    try:
        require_refusal(lambda: on_a_thread(lambda: enter(loaded.host)), "--lowvram")
    finally:
        shared.cmd_opts.lowvram = False
    loaded.model.is_sd1, loaded.model.is_sd3 = False, True
    require_refusal(lambda: loaded.host, "cannot be trained yet")
    loaded.model.is_sd1, loaded.model.is_sd3 = True, False
    layer = loaded.model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1.to_q
    kept = layer.weight
    layer.weight = torch.nn.Parameter(kept.detach().to(torch.int8), requires_grad=False)
    require_refusal(lambda: on_a_thread(lambda: enter(loaded.host)), "quantised weights")
    layer.weight = kept
    require_same_state(before, loaded.state())
    on_a_thread(lambda: enter(loaded.host))


@check("sd1", host="A1111")
def check_a_model_that_has_left_memory_is_refused(path: Path) -> None:
    """A1111 moves a model to "meta" when another one takes its place."""
    host = load(path).host
    load_with(path)
    require_refusal(lambda: on_a_thread(lambda: enter(host)), "not in memory")
