"""What only Forge has: its prompts, LoRAs that stay in the weights, fp8 storage, a model that is not loaded yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .equal import CAPTIONS
from .learning import gradient_case, hooked_step, random_network
from .loaded import SIDE, all_components, borrow, distance, load, on_a_thread, require_same_state
from .refused import enter, require_refusal
from .registry import check, report

LORA = "a cat on a wall <lora:{}:1>"


@contextmanager
def setting(name: str, value: Any) -> Iterator[None]:
    """A setting of the UI has another value inside."""
    from modules import shared

    before = shared.opts.data.get(name)
    shared.opts.data[name] = value
    try:
        yield
    finally:
        shared.opts.data[name] = before


@check("sd1", "sd2", "sdxl", host="Forge")
def check_the_chosen_checkpoint_is_known(path: Path) -> None:
    import torch

    from trainer_core.diffusion.process import scaled_linear_alphas
    from trainer_core.hosts.webui import WebuiVenue

    load(path)
    venue = WebuiVenue()
    host: Any = venue.host()
    assert venue.name == "Forge"
    assert host.name.startswith("Forge 2.")
    assert host.family.name == path.stem
    assert host.model_name == path.name
    assert host.process.prediction == "epsilon"
    torch.testing.assert_close(host.process.alphas_cumprod, scaled_linear_alphas(), rtol=1e-4, atol=1e-6)


@check("sdxl_velocity", host="Forge")
def check_a_velocity_checkpoint_is_known_in_forge(path: Path) -> None:
    process = load(path).host.process
    assert process.prediction == "v_prediction"
    assert process.alphas_cumprod[-1] < 1e-6


@check("sd1", host="Forge")
def check_a_checkpoint_that_is_not_loaded_yet_is_loaded(path: Path) -> None:
    from modules import sd_models

    from trainer_core.hosts.webui import WebuiVenue

    load(path)
    sd_models.model_data.sd_model, sd_models.model_data.forge_hash = sd_models.FakeInitialModel(), ""
    sd_models.model_data.forge_loading_parameters = {}
    host: Any = WebuiVenue().host()
    assert host.model_name == path.name
    on_a_thread(lambda: enter(host))


@check("sd1_inpaint", host="Forge")
def check_inpainting_models_are_refused_in_forge(path: Path) -> None:
    require_refusal(lambda: load(path).host.family, "9 channels")


@check("sd1", host="Forge")
def check_what_cannot_be_trained_is_refused_in_forge(path: Path) -> None:
    import torch

    loaded = load(path)
    with torch.inference_mode():
        require_refusal(lambda: enter(loaded.host), "inference mode")
    before = loaded.state()
    layer = loaded.unet.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1.to_q
    layer.weight.gguf_cls = object
    require_refusal(lambda: on_a_thread(lambda: enter(loaded.host)), "gguf")
    del layer.weight.gguf_cls
    kept = layer.weight
    layer.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    require_refusal(lambda: on_a_thread(lambda: enter(loaded.host)), "uint8")
    layer.weight = kept
    require_same_state(before, loaded.state())
    on_a_thread(lambda: enter(loaded.host))


@check("sd1", "sd2", "sdxl", host="Forge")
def check_texts_are_encoded_as_forges_prompts_are(path: Path) -> None:
    import torch

    from trainer_core.hosts.base import TextOptions

    loaded = load(path)
    host = loaded.host

    def theirs(caption: str, clip_skip: int) -> tuple[Any, Any]:
        with torch.inference_mode(), setting("emphasis", "None"):
            loaded.engine.set_clip_skip(clip_skip)
            encoded = loaded.engine.get_learned_conditioning([caption])
            loaded.engine.set_clip_skip(1)
        if not host.family.has_sizes:
            return encoded[0].clone(), None
        return encoded["crossattn"][0].clone(), encoded["vector"][0, : -6 * 256].clone()

    def compare() -> None:
        for trained in (["unet"], all_components(host)):
            with borrow(host, trained):
                for clip_skip in (1, 2):
                    ours = host.encode_texts(CAPTIONS, TextOptions(1, clip_skip))
                    assert ours.tokens.requires_grad is False, "no adapter is attached"
                    assert not ours.tokens.is_inference()
                    for number, caption in enumerate(CAPTIONS):
                        tokens, pooled = theirs(caption, clip_skip)
                        assert distance(ours.tokens[number], tokens) < 1e-4, (caption, clip_skip, trained)
                        if pooled is not None:
                            assert distance(ours.pooled[number], pooled) < 1e-4, caption
                long = "a long caption of many words, " * 14  # 98 tokens: two chunks
                assert host.encode_texts([long, "short"], TextOptions(2, 1)).tokens.shape[1] == 154
        engines = loaded.text_engines.values()
        assert [each.clip_skip for each in engines] == [max(1, each.minimal_clip_skip - 1) for each in engines]

    on_a_thread(compare)


@check("sd1", "sd2", "sdxl", host="Forge")
def check_previews_are_forges_own_pictures(path: Path) -> None:
    """host.sample and a click on Generate give the same picture, for an empty negative prompt too, and cfg 1."""
    import numpy as np
    import torch

    from trainer_core.hosts.base import SampleRequest

    loaded = load(path)
    host = loaded.host
    generated = loaded.picture()

    def sample() -> Any:
        with borrow(host, ["unet"]):
            return host.sample(SampleRequest("a cat on a wall", "", SIDE, SIDE, steps=2, cfg=3.0, seed=5))

    ours = torch.from_numpy(np.asarray(on_a_thread(sample)) / np.float32(255))
    report(f"differs by {(ours - generated).abs().max().item() * 255:.0f}/255")
    assert (ours - generated).abs().max() * 255 < 1.01, "more than the rounding to 8 bits"


@check("sd1", "sdxl", host="Forge")
def check_the_last_generations_loras_are_no_part_of_training(path: Path) -> None:
    import torch

    from .in_forge import write_lora

    loaded = load(path)
    host = loaded.host
    plain, fingerprint = loaded.picture(), host.fingerprint()

    def exported() -> Any:
        with borrow(host):
            return random_network(host, all_components(host), strength=0.01).state_dict(torch.float32)

    name = write_lora(on_a_thread(exported))
    changed = loaded.picture(prompt=LORA.format(name))
    assert not torch.equal(changed, plain), "the LoRA has no effect"
    assert loaded.unet.lora_loader.backup, "it is in the weights"
    assert host.fingerprint() == fingerprint, "a merged LoRA changes the fingerprint"

    def predicted() -> Any:
        case = gradient_case(host)
        with borrow(host), torch.no_grad():
            from trainer_core.hosts.base import TextOptions

            cond = host.encode_texts(case["captions"], TextOptions())
            cond = cond.sized(case["sizes"]) if host.family.has_sizes else cond
            assert not loaded.unet.lora_loader.backup
            return host.predict(case["x_t"], case["t"], cond)

    with_residue = on_a_thread(predicted)
    assert torch.equal(loaded.picture(), plain)
    assert torch.equal(on_a_thread(predicted), with_residue)
    assert torch.equal(loaded.picture(prompt=LORA.format(name)), changed), "the prompt's own LoRA is lost"


@check("sd1", host="Forge")
def check_words_are_not_swapped_for_embeddings(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from trainer_core.hosts.base import TextOptions

    loaded = load(path)
    host = loaded.host
    database = loaded.engine.text_processing_engine.embeddings
    folder = path.parent.parent / "embeddings"
    folder.mkdir(exist_ok=True)
    save_file({"emb_params": torch.ones(2, 768)}, str(folder / "catlike.safetensors"))

    def encode() -> Any:
        with borrow(host, ["unet"]):
            return host.encode_texts(["a catlike dog"], TextOptions()).tokens

    before = on_a_thread(encode)
    database.add_embedding_dir(str(folder))
    database.load_textual_inversion_embeddings()
    assert "catlike" in database.word_embeddings, "Forge does not know the embedding"
    assert torch.equal(on_a_thread(encode), before)


@check("sd1", host="Forge")
def check_fp8_weights_are_trained_on_and_given_back(path: Path) -> None:
    import torch

    with setting("forge_unet_storage_dtype", "float8-e4m3fn"):
        loaded = load(path)
    host = loaded.host
    first = loaded.picture()
    before = loaded.state()
    fp8 = [each for each in loaded.unet.parameters() if each.dtype == torch.float8_e4m3fn]
    assert len(fp8) > 100

    def work() -> None:
        with borrow(host, checkpointing=True):
            network = random_network(host, all_components(host))
            with network.attached():
                hooked_step(host, network)
        assert all(
            each.grad is not None for group in network.parameters_by_component().values() for each in group.values()
        )

    on_a_thread(work)
    require_same_state(before, loaded.state())
    assert torch.equal(loaded.picture(), first)
