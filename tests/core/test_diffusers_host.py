"""diffusers as a host: encodes as its pipelines do, gives exact gradients, and gives everything back."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.func import functional_call

from trainer_core.config import NetworkConfig
from trainer_core.errors import HostError
from trainer_core.hosts.base import SampleRequest, TextOptions
from trainer_core.hosts.diffusers import DiffusersHost, load_host
from trainer_core.networks.network import build_network


@pytest.fixture(params=[False, True], ids=["sd1", "sdxl"])
def host(request, make_pipeline) -> DiffusersHost:
    return DiffusersHost(make_pipeline(xl=request.param))


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_captions_are_encoded_as_the_pipeline_does(host, clip_skip):
    pipeline = host._pipeline
    with host.borrowed([], "auto", False):
        ours = host.encode_texts(["a cat, sitting", ""], TextOptions(clip_skip=clip_skip))
    prompts = ["a cat, sitting", ""]
    if host.family.has_sizes:
        tokens, _, pooled, _ = pipeline.encode_prompt(prompts, device="cpu", do_classifier_free_guidance=False)
        assert torch.allclose(ours.pooled, pooled, atol=1e-6)
    else:
        if clip_skip > 1 and not hasattr(pipeline.text_encoder, "text_model"):
            pytest.skip("this diffusers cannot skip layers of this transformers' text encoder")
        skip = None if clip_skip == 1 else clip_skip - 1
        tokens, _ = pipeline.encode_prompt(prompts, "cpu", 1, False, clip_skip=skip)
    assert torch.allclose(ours.tokens, tokens, atol=1e-6)


def test_clip_skip_takes_the_layer_and_its_norm(make_pipeline):
    pipeline = make_pipeline()
    host = DiffusersHost(pipeline)
    with host.borrowed([], "auto", False):
        ours = host.encode_texts(["a cat"], TextOptions(clip_skip=2)).tokens
    rows = pipeline.tokenizer(["a cat"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    hidden = pipeline.text_encoder(rows, output_hidden_states=True).hidden_states[-2]
    norm = next(m for name, m in pipeline.text_encoder.named_modules() if name.endswith("final_layer_norm"))
    assert torch.allclose(ours, norm(hidden), atol=1e-6)


def test_long_captions_are_read_in_chunks(host):
    caption = " ".join("abcdefghij" for _ in range(12))  # one token a letter: 120
    with host.borrowed([], "auto", False):
        short, long = (host.encode_texts([caption], TextOptions(chunks=n)).tokens for n in (1, 2))
        head = host.encode_texts([caption.replace(" ", "")[:75]], TextOptions()).tokens
    assert short.shape[1] == 77 and long.shape[1] == 154
    assert torch.allclose(long[:, :77], short, atol=1e-6)
    assert head.shape == short.shape


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
def test_adapter_gradients_equal_autograd_on_merged_weights(host, checkpointing):
    clean = {name: copy.deepcopy(module) for name, module in host.components().items()}
    network = build_network(NetworkConfig(algo="locon", rank=2, alpha=1), host.components(), host.family, seed=1)
    for adapter in network.adapters:  # up starts at zero; a gradient that only flows into it would prove little
        for parameter in adapter.parameters.values():
            torch.nn.init.normal_(parameter, std=0.1)
    x, t, noise = torch.randn(2, 4, 8, 8), torch.tensor([10, 800]), torch.randn(2, 4, 8, 8)
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)

    def loss() -> torch.Tensor:
        cond = host.encode_texts(["a b", "c"], TextOptions())
        return (host.predict(x, t, cond.sized(sizes) if host.family.has_sizes else cond) - noise).square().mean()

    with host.borrowed(list(clean), "auto", checkpointing), network.attached():
        loss().backward()
    ours = {key: p.grad for each in network.parameters_by_component().values() for key, p in each.items()}

    parameters = {
        key: p.detach().requires_grad_()
        for group in network.parameters_by_component().values()
        for key, p in group.items()
    }
    merged = _merged(network, clean, host, parameters)
    loss_there = _plain_loss(host, clean, merged, x, t, noise, sizes)
    # SDXL reads its encoders' last layer but one: what stands behind it gets no gradient
    expected = torch.autograd.grad(loss_there, list(parameters.values()), allow_unused=host.family.has_sizes)
    for key, gradient in zip(parameters, expected, strict=True):
        there = torch.zeros_like(parameters[key]) if gradient is None else gradient
        here = torch.zeros_like(there) if ours[key] is None else ours[key]
        assert torch.allclose(here, there, rtol=1e-3, atol=1e-6), key


def _merged(network, clean, host, parameters):
    """Every component's weights with ΔW added as a differentiable function of the adapters' parameters."""
    modules = {id(m): (c, n) for c, trunk in host.components().items() for n, m in trunk.named_modules()}
    merged = {component: dict(module.state_dict()) for component, module in clean.items()}
    for adapter in network.adapters:
        component, name = modules[id(adapter.layer.module)]
        weights = {suffix: parameters[f"{adapter.key}.{suffix}"] for suffix in adapter.parameters}
        key = f"{name}.weight"
        merged[component][key] = merged[component][key] + network.algorithm.delta(adapter.layer, weights)
    return merged


def _plain_loss(host, clean, merged, x, t, noise, sizes):
    """The same loss, written without any of our code, on untouched copies."""
    pipeline = host._pipeline

    def encode(component, tokenizer):
        rows = tokenizer(["a b", "c"], padding="max_length", max_length=77, return_tensors="pt").input_ids
        return functional_call(clean[component], merged[component], (rows,), {"output_hidden_states": True})

    first = encode("te1", pipeline.tokenizer)
    extra = {}
    tokens = first.last_hidden_state
    if host.family.has_sizes:
        second = encode("te2", pipeline.tokenizer_2)
        tokens = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        extra = {"added_cond_kwargs": {"text_embeds": second.text_embeds, "time_ids": sizes}}
    output = functional_call(clean["unet"], merged["unet"], (x, t, tokens), extra).sample
    return (output - noise).square().mean()


def test_a_borrowed_pipeline_comes_back_as_it_was_even_from_another_dtype(host):
    pipeline = host._pipeline
    pipeline.to(torch.float16)
    pipeline.unet.train()
    pipeline.unet.conv_in.weight.requires_grad_(True)
    tensors = {n: t for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for n, t in m.state_dict().items()}
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    scheduler = pipeline.scheduler
    with pytest.raises(ValueError, match="midway"), host.borrowed(["unet"], "fp32", True):
        assert pipeline.unet.dtype == torch.float32
        host.sample(SampleRequest("x", "", 64, 64, 2, 2.0, 1))
        raise ValueError("midway")
    assert pipeline.unet.training and pipeline.unet.conv_in.weight.requires_grad
    assert pipeline.scheduler is scheduler and "forward" not in vars(pipeline.unet.mid_block.resnets[0])
    after = {n: t for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for n, t in m.state_dict().items()}
    assert {name: tensor.data_ptr() for name, tensor in after.items()} == pointers


def test_pictures_do_not_depend_on_the_batch_they_are_made_in(host):
    requests = [SampleRequest(prompt, "", 64, 64, 3, 3.0, seed) for prompt, seed in (("a", 1), ("b", 2))]
    with host.borrowed([], "auto", False):
        together = host.sample_batch(requests)
        alone = [host.sample(each) for each in requests]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_latents_round_trip_through_a_saved_folder(tmp_path, make_pipeline):
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    host, loaded = DiffusersHost(pipeline), load_host(tmp_path / "model", "cpu")
    assert host.fingerprint() == loaded.fingerprint() and host.vae_fingerprint() == loaded.vae_fingerprint()
    assert host.fingerprint() != host.vae_fingerprint()
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    with host.borrowed([], "auto", False), loaded.borrowed([], "auto", False):
        assert torch.equal(host.encode_images(pixels), loaded.encode_images(pixels))


@pytest.mark.parametrize("path", ["missing.safetensors", "model.ckpt", "nowhere"])
def test_what_cannot_be_loaded_is_said_in_one_sentence(tmp_path, path):
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(HostError) as caught:
        load_host(tmp_path / path)
    assert "\n" not in str(caught.value) and path in str(caught.value)
