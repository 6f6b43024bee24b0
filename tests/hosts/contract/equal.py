"""Texts, pictures and predictions are what the host itself computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .loaded import SIDE, all_components, borrow, distance, load, on_a_thread
from .registry import check

CAPTIONS = ("a cat", "", "a (very) long \\(dog\\), 1girl, [brackets]: 3 + 4, ünïcode", "word " * 75)


@check("sd1", "sd2", "sdxl", host="ComfyUI")
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
        layers = {"sd1": {1: None, 2: -2}, "sd2": {1: None, 2: -3}, "sdxl": {1: None, 2: None}}[path.stem]
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


@check("sd1", "sd2", "sdxl")
def check_weighted_captions_are_plain_ones_times_their_weights(path: Path) -> None:
    """kohya's rule, not the sampler's, which moves hidden states away from those of an empty prompt."""
    import torch

    from trainer_core.hosts.base import TextOptions

    host = load(path).host
    weights = torch.ones(1, 77, 1)
    weights[0, 2], weights[0, 3] = 1.5, 1 / 1.1

    def compare() -> None:
        for trained in (["unet"], all_components(host)):
            with borrow(host, trained):
                plain = host.encode_texts(["a cat sat"], TextOptions())
                ours = host.encode_texts(["a (cat:1.5) [sat]"], TextOptions(weighted=True))
                assert distance(ours.tokens, plain.tokens * weights.to(plain.tokens.device)) < 1e-6, trained
                escaped = host.encode_texts([r"a \(cat\)"], TextOptions(weighted=True))
                assert distance(escaped.tokens, host.encode_texts(["a (cat)"], TextOptions()).tokens) < 1e-6
                if host.family.has_sizes:
                    assert distance(ours.pooled, plain.pooled) < 1e-6

    on_a_thread(compare)


@check("sd1", "sdxl")
def check_images_are_encoded_as_the_host_does(path: Path) -> None:
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

    assert distance(on_a_thread(ours), loaded.encoded_images(pixels)) < 1e-5


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
        with borrow(host), torch.no_grad():
            cond = host.encode_texts(["a cat", "a dog"], TextOptions())
            cond = cond.sized(sizes) if host.family.has_sizes else cond
            ours = host.predict(x_t, t, cond)
            sigma = loaded.sigmas(t)
            x = x_t * (sigma.view(-1, 1, 1, 1) ** 2 + 1).sqrt()
            denoised = loaded.denoised(x, sigma, cond)
            assert distance(ours, (x - denoised) / sigma.view(-1, 1, 1, 1)) < 1e-3

    on_a_thread(compare)
