"""The caches: made once, right for edited pictures, sound after crashes, and quick to read a batch from."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer_core.data.batches import Batch, epoch_batches, mirrored_at_random
from trainer_core.data.buckets import Placement, assign_buckets
from trainer_core.data.cache import LatentCache, TextCache, latent_key
from trainer_core.data.examples import scan
from trainer_core.data.pictures import fit_to_bucket, read_picture, size_conditioning, to_tensor
from trainer_core.diffusion.cond import Cond
from trainer_core.errors import DataError
from trainer_core.events import Cached, Warned


class CountingEncoder:
    """A stand-in for a VAE: averages 8×8 squares, and remembers what it was given."""

    def __init__(self) -> None:
        self.shapes: list[torch.Size] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        self.shapes.append(pixels.shape)
        assert not torch.is_grad_enabled()
        return encoded(pixels)

    @property
    def pictures(self) -> int:
        return sum(shape[0] for shape in self.shapes)


def encoded(pixels: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(pixels, 8).repeat(1, 2, 1, 1)[:, :4]


@pytest.fixture
def folder_of_pictures(tmp_path, draw) -> Path:
    folder = tmp_path / "pictures"
    for i in range(5):
        draw(folder / f"square{i}.png", size=(70 + i, 70 + i), seed=i)
    for i in range(3):
        draw(folder / f"tall{i}.png", size=(60, 90), seed=10 + i)
    return folder


@pytest.fixture
def build(folder_of_pictures, configured, tmp_path):
    """A cache over the folder as it is now, with the dataset and the encoder it uses."""

    def build_one(folder=tmp_path / "cache", vae="vae 1", encode=None, resolution=64, **options):
        config = configured(folder=str(folder_of_pictures), resolution=resolution, bucket_reso_steps=16)
        dataset = scan(config)
        placements = assign_buckets([each.size for each in dataset.examples], config)
        encode = encode or CountingEncoder()
        cache = LatentCache(dataset.examples, placements, encode, vae, folder, **options)
        return cache, dataset.examples, placements, encode

    return build_one


def batches_of(placements, batch_size=2):
    return epoch_batches(placements, [1] * len(placements), batch_size, 0, 1)


def assert_right(cache: LatentCache, examples, placements) -> None:
    for batch in batches_of(placements):
        latents, sizes = cache.get(batch)
        for row, index in enumerate(batch.indices):
            fitted = fit_to_bucket(read_picture(examples[index].path), placements[index])
            assert torch.equal(latents[row], encoded(to_tensor(fitted)[None])[0])
            assert tuple(sizes[row].tolist()) == size_conditioning(examples[index].size, placements[index])
        assert latents.shape == (len(batch), 4, batch.bucket[1] // 8, batch.bucket[0] // 8)
        assert sizes.shape == (len(batch), 6)


@pytest.mark.parametrize("budget", [0, 2**31])
@pytest.mark.parametrize("kept", [True, False])
def test_a_batch_is_what_encoding_its_pictures_gives(build, budget, kept):
    cache, examples, placements, encode = build(memory_budget=budget, **({} if kept else {"folder": None}))
    assert list(cache.fill())[-1] == Cached("latents", 8, 8)
    assert encode.pictures == 8
    assert len(encode.shapes) == 2, "pictures of one size are encoded together"
    assert_right(cache, examples, placements)


def test_mirrored_pictures_are_encoded_and_kept_on_their_own(build):
    """Latents of a mirrored picture are other ones than the picture's, mirrored: this encoder tells left from right."""

    def encode(pixels):
        return encoded(pixels) * torch.linspace(0, 1, pixels.shape[-1] // 8)

    cache, examples, placements, _ = build(encode=encode, mirrored_too=True)
    assert list(cache.fill())[-1] == Cached("latents", 16, 16)
    for batch in mirrored_at_random(batches_of(placements), 0, 1):
        latents, sizes = cache.get(batch)
        for row, (index, flip) in enumerate(zip(batch.indices, batch.mirrored, strict=True)):
            fitted = to_tensor(fit_to_bucket(read_picture(examples[index].path), placements[index]))[None]
            assert torch.equal(latents[row], encode(fitted.flip(-1) if flip else fitted)[0])
            shown = replace(placements[index], mirrored=flip)
            assert tuple(sizes[row].tolist()) == size_conditioning(examples[index].size, shown)
    again, *_ = build(encode=CountingEncoder(), mirrored_too=True)
    list(again.fill())
    assert again._encode.pictures == 0, "both are on disk"


def test_a_mirrored_placement_cuts_at_the_other_side():
    placement = Placement((64, 64), (71, 64), (2, 0))
    assert size_conditioning((142, 128), placement)[3] == 2
    assert size_conditioning((142, 128), replace(placement, mirrored=True))[3] == 5


def test_a_second_run_encodes_nothing(build):
    list(build()[0].fill())
    cache, examples, placements, encode = build()
    events = list(cache.fill())
    assert encode.pictures == 0
    assert events == [Cached("latents", done, 8) for done in range(1, 9)]
    assert_right(cache, examples, placements)


def test_vaes_that_shrink_by_4_are_cached_too(build):
    def encode_finely(pixels):
        return torch.nn.functional.avg_pool2d(pixels, 4)

    list(build(encode=encode_finely)[0].fill())
    cache, _, _, encode = build(vae="vae 1")
    list(cache.fill())
    assert encode.pictures == 0


def test_how_many_are_encoded_at_once_follows_their_area(build):
    cache, *_, encode = build(pixels_per_encode=2 * 64 * 64)
    list(cache.fill())
    assert max(shape[0] for shape in encode.shapes) == 2
    assert all(shape[0] * shape[2] * shape[3] <= 2 * 64 * 64 for shape in encode.shapes)


def test_edited_pictures_other_sizes_and_other_vaes_are_encoded_anew(build, folder_of_pictures, draw):
    list(build()[0].fill())
    draw(folder_of_pictures / "square0.png", size=(70, 70), seed=99)
    cache, examples, placements, encode = build()
    list(cache.fill())
    assert encode.pictures == 1
    assert_right(cache, examples, placements)
    for options in ({"vae": "vae 2"}, {"resolution": 96}):
        cache, examples, placements, encode = build(**options)
        list(cache.fill())
        assert encode.pictures == 8
        assert_right(cache, examples, placements)


def test_copies_of_a_picture_are_encoded_once(build, folder_of_pictures):
    (folder_of_pictures / "copy.png").write_bytes((folder_of_pictures / "square0.png").read_bytes())
    cache, examples, placements, encode = build()
    events = list(cache.fill())
    assert len(examples) == 9 and encode.pictures == 8
    assert events[-1] == Cached("latents", 9, 9)
    assert_right(cache, examples, placements)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * len(data),
        lambda data: safetensors.torch.save({"other": torch.zeros(1)}),
        lambda data: safetensors.torch.save({"latents": torch.zeros(4, 1, 1)}),
        lambda data: safetensors.torch.save({"latents": torch.full((4, 8, 8), torch.nan)}),
    ],
)
def test_a_damaged_file_is_made_anew(build, damage):
    cache = build()[0]
    list(cache.fill())
    path = cache.path(0)
    path.write_bytes(damage(path.read_bytes()))
    cache, examples, placements, encode = build()
    list(cache.fill())
    assert encode.pictures == 1
    assert_right(cache, examples, placements)
    assert safetensors.torch.load(path.read_bytes())["latents"].shape == (4, 8, 8)


def test_an_interrupted_write_leaves_the_old_file_or_none(build, monkeypatch):
    cache, *_ = build()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        list(cache.fill())
    monkeypatch.undo()
    assert not list(cache.path(0).parents[1].glob("*/*.latents"))
    cache, examples, placements, _ = build()
    list(cache.fill())
    assert_right(cache, examples, placements)


def test_a_full_disk_is_said_once_and_training_goes_on(build, monkeypatch):
    cache, examples, placements, _ = build()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    warned = [event for event in cache.fill() if isinstance(event, Warned)]
    assert len(warned) == 1 and "No space left" in warned[0].message
    assert_right(cache, examples, placements)


def fill_in_this_process(cache: LatentCache) -> None:
    list(cache.fill())


def test_two_processes_may_fill_one_cache(build):
    caches = [build(encode=encoded)[0] for _ in range(3)]
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    others = [context.Process(target=fill_in_this_process, args=(cache,)) for cache in caches[1:]]
    torch.set_num_threads(1)
    for other in others:
        other.start()
    list(caches[0].fill())
    for other in others:
        other.join(30)
        assert other.exitcode == 0
    cache, examples, placements, encode = build()
    list(cache.fill())
    assert encode.pictures == 0
    assert_right(cache, examples, placements)
    assert not list(cache.path(0).parents[1].glob("*/*.tmp"))


def encode_slowly(pixels: Tensor) -> Tensor:
    time.sleep(0.1)
    return encoded(pixels)


def test_a_process_that_is_killed_leaves_whole_files_and_the_next_goes_on(build):
    cache, *_ = build(encode=encode_slowly, pixels_per_encode=1)
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    torch.set_num_threads(1)
    killed = context.Process(target=fill_in_this_process, args=(cache,))
    killed.start()
    folder = cache.path(0).parents[1]
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*/*.latents"))) < 3:
        assert killed.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.join(30)
    kept = len(list(folder.glob("*/*.latents")))
    assert 3 <= kept < 8, "it was killed under way"
    cache, examples, placements, encode = build()
    list(cache.fill())
    assert encode.pictures == 8 - kept
    assert_right(cache, examples, placements)


def test_a_picture_that_cannot_be_decoded_is_named(build, folder_of_pictures):
    cache, *_ = build()
    folder_of_pictures.joinpath("tall1.png").unlink()
    with pytest.raises(DataError, match=r"tall1\.png"):
        list(cache.fill())


def test_a_picture_edited_meanwhile_cannot_poison_the_cache(build, folder_of_pictures, draw):
    cache, *_ = build()
    draw(folder_of_pictures / "tall1.png", size=(60, 90), seed=77)
    with pytest.raises(DataError, match=r"tall1\.png was changed .*start the run again"):
        list(cache.fill())
    cache, examples, placements, _ = build()
    list(cache.fill())
    assert_right(cache, examples, placements)


def test_latents_that_are_not_numbers_name_the_picture(build):
    cache, *_ = build(encode=lambda pixels: encoded(pixels) * torch.nan)
    with pytest.raises(DataError, match=r"square0\.png into values that are not numbers; run the VAE in fp32"):
        list(cache.fill())
    assert not cache.path(0).exists()


def test_stopping_in_the_middle_leaves_no_threads_and_keeps_what_was_made(build):
    cache, *_ = build(pixels_per_encode=1)
    filling = cache.fill()
    for _ in range(3):
        next(filling)
    filling.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    cache, *_, encode = build()
    list(cache.fill())
    assert encode.pictures == 8 - 3, "what was announced was on disk"


def test_latents_can_be_trained_on_though_the_host_encodes_in_inference_mode(build):
    def encode(pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return encoded(pixels)

    cache, _, placements, _ = build(encode=encode)
    list(cache.fill())
    latents, _ = cache.get(batches_of(placements)[0])
    weight = torch.ones(1, requires_grad=True)
    (latents * weight).sum().backward()
    assert weight.grad is not None


def test_latents_are_given_in_the_dtype_asked_for(build):
    cache, _, placements, _ = build(dtype=torch.bfloat16)
    list(cache.fill())
    latents, sizes = cache.get(batches_of(placements)[0])
    assert latents.dtype == torch.bfloat16 and sizes.dtype == torch.float32


def test_a_key_tells_apart_what_matters(build):
    _, examples, placements, _ = build()
    digest, placement = examples[0].digest, placements[0]
    keys = {
        latent_key(digest, placement, "v"),
        latent_key("other", placement, "v"),
        latent_key(digest, placement, "w"),
        latent_key(digest, replace(placement, crop=(1, 0)), "v"),
        latent_key(digest, replace(placement, resized=(99, 64)), "v"),
        latent_key(digest, replace(placement, bucket=(48, 64)), "v"),
    }
    assert len(keys) == 6 and all(len(key) == 64 for key in keys)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("budget", [0, 2**31])
def test_reading_a_batch_does_not_wait_for_the_device(build, budget):
    cache, _, placements, _ = build(device="cuda", memory_budget=budget)
    list(cache.fill())
    torch.cuda.set_sync_debug_mode("error")
    try:
        read = [cache.get(batch) for batch in batches_of(placements)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(latents.is_cuda and sizes.is_cuda for latents, sizes in read)


class CountingTextEncoder:
    """A stand-in for CLIP: a row is made of the caption's letters alone."""

    def __init__(self, pooled: bool) -> None:
        self.calls: list[list[str]] = []
        self.sizes: set[int] = set()
        self.pooled = pooled

    def __call__(self, captions) -> Cond:
        self.calls.append(list(dict.fromkeys(captions)))
        self.sizes.add(len(captions))
        assert not torch.is_grad_enabled()
        rows = torch.tensor([[float(sum(map(ord, caption)))] for caption in captions])
        return Cond(rows[:, None].expand(-1, 77, 8), rows.expand(-1, 5) if self.pooled else None)


@pytest.mark.parametrize("pooled", [True, False])
def test_captions_are_encoded_once_and_given_in_order(pooled):
    encode = CountingTextEncoder(pooled)
    cache = TextCache(encode, captions_per_encode=2)
    assert list(cache.fill(["a", "b", "a", "c", ""])) == [Cached("captions", 2, 4), Cached("captions", 4, 4)]
    assert encode.calls == [["a", "b"], ["c", ""]]
    cond = cache.get(["c", "a", "a", ""])
    fresh = CountingTextEncoder(pooled)
    with torch.no_grad():
        expected = fresh(["c", "a", "a", ""])
    assert torch.equal(cond.tokens, expected.tokens)
    assert cond.sizes is None
    assert (cond.pooled is None) if not pooled else torch.equal(cond.pooled, expected.pooled)
    assert len(encode.calls) == 2


def test_another_epochs_captions_replace_those_no_longer_seen():
    encode = CountingTextEncoder(False)
    cache = TextCache(encode)
    list(cache.fill(["a", "b"]))
    assert list(cache.fill(["b", "c"])) == [Cached("captions", 2, 2)]
    assert encode.calls == [["a", "b"], ["c"]]
    cache.get(["a"])
    assert encode.calls[-1] == ["a"], "a caption that is not at hand is encoded when it is asked for"
    assert len(encode.sizes) == 1, "one batch size, whatever is missing: the last bits depend on it"


ROW_BYTES = 77 * 8 * 4


def test_captions_that_come_back_are_kept_as_far_as_there_is_room():
    encode = CountingTextEncoder(False)
    cache = TextCache(encode, kept_bytes=2 * ROW_BYTES)
    list(cache.fill(["a", "b", "c"]))
    assert list(cache.fill(["d"])) == [Cached("captions", 1, 1)]
    assert list(cache.fill(["b", "c"])) == [], "the latest two were kept"
    list(cache.fill(["a"]))
    assert encode.calls == [["a", "b", "c"], ["d"], ["a"]]
    list(cache.fill(["d"]))
    assert encode.calls[-1] == ["d"], "b and c were asked for later than d, and there is room for two"


@given(
    epochs=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=8),
    room=st.integers(0, 4),
)
def test_no_more_is_kept_than_there_is_room_for_and_what_is_wanted_is_there(epochs, room):
    encode = CountingTextEncoder(False)
    cache = TextCache(encode, kept_bytes=room * ROW_BYTES)
    for wanted in epochs:
        events = list(cache.fill(wanted))
        assert not events or (events[-1].done, events[-1].total) == (len(set(wanted)), len(set(wanted)))
        assert set(wanted) <= set(cache._rows) and len(cache._rows) <= len(set(wanted)) + room
        calls = len(encode.calls)
        if wanted:
            cond = cache.get(wanted)
            assert cond.tokens[:, 0, 0].tolist() == [float(ord(each)) for each in wanted]
        assert len(encode.calls) == calls


def test_nothing_to_encode_is_no_event():
    cache = TextCache(CountingTextEncoder(False))
    list(cache.fill(["a"]))
    assert list(cache.fill(["a"])) == []


def test_a_batch_of_repeats_of_one_picture(build):
    cache, _, placements, _ = build()
    list(cache.fill())
    latents, _ = cache.get(Batch(placements[0].bucket, (0, 0), (0, 1)))
    assert torch.equal(latents[0], latents[1])
