"""Captions in a run: variants that are encoded once, tags that warm up, weights, and all of it over a resume."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from trainer_core.data.cache import TextCache
from trainer_core.data.captions import parse_tags
from trainer_core.events import Cached, Finished, Stepped
from trainer_core.train import train

FROZEN = {"train_text_encoder": False}


def captions_cached(events) -> list[int]:
    """After how many steps captions were encoded."""
    found, steps = [], 0
    for event in events:
        steps += isinstance(event, Stepped)
        if isinstance(event, Cached) and event.what == "captions":
            found.append(steps)
    return found


def weights_of(events) -> dict[str, torch.Tensor]:
    return load_file(next(event for event in events if isinstance(event, Finished)).epochs[-1][1])


@pytest.fixture
def seen(monkeypatch) -> list[list[str]]:
    """The captions of each step, which have to be at hand when it begins."""
    found: list[list[str]] = []
    get = TextCache.get

    def watched(self, captions):
        assert all(caption in self._rows for caption in captions), "encoded in a step"
        found.append(list(captions))
        return get(self, captions)

    monkeypatch.setattr(TextCache, "get", watched)
    return found


def test_variants_are_encoded_in_the_first_epoch_and_never_again(tiny_host, make_config, seen):
    shuffled = {"shuffle_caption": True, "caption_variants": 2}
    events = list(train(make_config(max_train_epochs=4, dataset=shuffled, network=FROZEN), tiny_host))
    assert set(captions_cached(events)) == {0}
    assert len({caption for step in seen for caption in step}) <= 5 * 2

    seen.clear()
    shuffled["caption_variants"] = 0
    config = make_config(output_name="anew", max_train_epochs=4, dataset=shuffled, network=FROZEN)
    events = list(train(config, tiny_host))
    assert len(set(captions_cached(events))) > 1, "a new caption for each visit is encoded epoch by epoch"
    assert len({caption for step in seen for caption in step}) > 5 * 2


def test_variants_beyond_the_room_are_encoded_again_and_train_the_same(tiny_host, make_config, monkeypatch):
    shuffled = {"shuffle_caption": True, "caption_variants": 5}
    settings = {"max_train_epochs": 4, "dataset": shuffled, "network": FROZEN}
    kept = list(train(make_config(**settings), tiny_host))
    monkeypatch.setattr("trainer_core.material._KEPT_TEXT_BYTES", 0)
    forgotten = list(train(make_config(output_name="forgotten", **settings), tiny_host))
    assert (max(captions_cached(kept)), max(captions_cached(forgotten))) == (10, 15), "the fourth epoch brings none"
    ours, theirs = weights_of(kept), weights_of(forgotten)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_variants_that_only_a_subset_has_are_kept_too(tiny_host, make_config, pictures, seen):
    described = pictures / "set.toml"
    subset = 'image_dir = "2_thing"\nnum_repeats = 2\ncaption_extension = ".txt"\nshuffle_caption = true\n'
    described.write_text("[[datasets]]\n[[datasets.subsets]]\n" + subset)
    dataset = {"folder": str(described), "caption_variants": 5}
    events = list(train(make_config(max_train_epochs=4, dataset=dataset, network=FROZEN), tiny_host))
    assert max(captions_cached(events)) == 10, "the fourth epoch brings none"
    assert len({caption for step in seen for caption in step}) > 5, "shuffled by the file"


def test_settings_of_chance_change_nothing_where_there_is_none(tiny_host, make_config):
    usual = weights_of(list(train(make_config(max_train_epochs=1, network=FROZEN), tiny_host)))
    for number, dataset in enumerate(({"caption_variants": 3}, {"enable_wildcard": True}, {"weighted_captions": True})):
        config = make_config(output_name=f"other{number}", max_train_epochs=1, dataset=dataset, network=FROZEN)
        other = weights_of(list(train(config, tiny_host)))
        assert all(torch.equal(other[key], usual[key]) for key in usual), dataset


def test_tags_warm_up_step_by_step(tiny_host, make_config, seen):
    warming = {"token_warmup_step": 6, "keep_tokens": 1, "token_warmup_min": 0}
    events = list(train(make_config(max_train_epochs=2, dataset=warming, network=FROZEN), tiny_host))
    steps = sum(isinstance(event, Stepped) for event in events)
    assert len(seen) == steps > 6
    counts = [[len(parse_tags(caption)) for caption in step] for step in seen]
    # three tags, one kept: of the other two floor(step · 2 / 6)
    assert [set(each) for each in counts[:7]] == [{1}, {1}, {1}, {2}, {2}, {2}, {3}]
    assert all(set(each) == {3} for each in counts[6:])


def test_a_resumed_run_sees_the_captions_of_an_uninterrupted_one(tiny_host, make_config):
    chance = {"token_warmup_step": 0.8, "shuffle_caption": True, "caption_variants": 3, "caption_dropout_rate": 0.2}
    whole = list(train(make_config(output_name="whole", dataset=chance, network=FROZEN), tiny_host))
    config = make_config(output_name="parts", dataset=chance, network=FROZEN)
    run = train(config, tiny_host)
    next(event for event in run if isinstance(event, Stepped) and event.step == 3)
    run.close()
    parts = list(train(config, tiny_host))
    ours, theirs = weights_of(parts), weights_of(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("trains_text", [False, True], ids=["frozen", "learning"])
def test_weights_in_captions_reach_the_adapters(tiny_host, make_config, pictures, trains_text):
    for path in pictures.rglob("*.txt"):
        path.write_text(path.read_text().replace("a thing", "(a thing:1.5)"))
    trained = []
    for weighted in (False, True):
        config = make_config(
            output_name=f"weighted-{weighted}",
            max_train_epochs=1,
            dataset={"weighted_captions": weighted},
            network={"train_text_encoder": trains_text},
        )
        trained.append(weights_of(list(train(config, tiny_host))))
    plain, weighed = trained
    assert plain.keys() == weighed.keys() and any(key.startswith("lora_te") for key in plain) is trains_text
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weighed.values())
    assert any(not torch.equal(plain[key], weighed[key]) for key in plain)
