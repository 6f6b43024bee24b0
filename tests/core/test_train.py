"""The loop on a small pipeline: what it yields, what it leaves, and that stopping costs nothing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainer_core.errors import ConfigError, DataError, RunError, TrainingError
from trainer_core.events import Cached, Finished, Measured, Planned, Sampled, Saved, Stepped, Warned
from trainer_core.files.event_log import read_measurements
from trainer_core.files.lora_file import load_lora
from trainer_core.hosts.base import SampleRequest
from trainer_core.job import Job
from trainer_core.train import train

STEPS_PER_EPOCH = 5  # 6 visits of squares in 3 batches of 2, 4 of the wide ones in 2


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def weights_of(events):
    return [load_file(path) for _, path in of_kind(events, Finished)[0].epochs]


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), key


def base_weights(host):
    return {
        f"{component}.{name}": tensor.clone()
        for component, module in host.components().items()
        for name, tensor in module.state_dict().items()
    }


def picture_of(host):
    with host.borrowed([], "auto", False):
        return np.asarray(host.sample(SampleRequest("a thing", "", 64, 64, 2, 3.0, 1)))


def stop_after(config, host, steps):
    """Train and close the generator right after that many optimizer steps, as a cancel does."""
    stream = train(config, host)
    taken = 0
    for event in stream:
        taken += isinstance(event, Stepped)
        if taken == steps:
            break
    stream.close()


def test_a_run_says_what_it_does_and_leaves_every_epoch(tiny_host, make_config):
    config = make_config(sample={"prompts": ["a thing"], "steps": 2, "cfg": 2})
    events = list(train(config, tiny_host))

    plan = of_kind(events, Planned)[0].plan
    assert events[0] == Planned(plan)
    assert plan.steps_per_epoch == STEPS_PER_EPOCH and plan.total_steps == 2 * STEPS_PER_EPOCH
    assert [event.done for event in of_kind(events, Cached)][-1] == 5
    assert [event.step for event in of_kind(events, Stepped)] == list(range(1, 11))
    assert [event.epoch for event in of_kind(events, Sampled)] == [1, 2]
    assert [event.path.name for event in of_kind(events, Saved)] == [
        "thing-000001.safetensors",
        "thing-000002.safetensors",
    ]
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.trained_steps == 10
    assert all(path.is_file() for _, path in finished.epochs)
    assert not list(finished.folder.glob("resume*"))


def test_the_log_holds_each_step_once_with_its_rate(tiny_host, make_config):
    config = make_config(optimizer={"lr_scheduler": "linear", "lr_warmup_steps": "2"})
    events = list(train(config, tiny_host))
    plan = events[0].plan
    measured = [each for event in of_kind(events, Measured) for each in event.measurements]
    assert [each.step for each in measured] == list(range(1, 11))
    assert [each.lr["unet"] for each in measured] == pytest.approx([1e-3 * factor for factor in plan.lr_factors])
    assert measured == read_measurements(events[-1].folder / "events.jsonl")


def test_training_lowers_the_loss(tiny_host, make_config):
    config = make_config(max_train_epochs=20, optimizer={"learning_rate": 1e-2, "lr_scheduler": "constant"})
    events = list(train(config, tiny_host))
    losses = [each.loss for event in of_kind(events, Measured) for each in event.measurements]
    assert np.mean(losses[-30:]) < 0.98 * np.mean(losses[:30])


@pytest.mark.parametrize("optimizer", ["AdamW", "Prodigy", "DAdaptAdam"])
@pytest.mark.parametrize("stop", [1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 2, 2 * STEPS_PER_EPOCH])
def test_resume_equals_uninterrupted_run(tiny_host, make_config, optimizer, stop):
    settings = {
        "optimizer": {"optimizer": optimizer, "learning_rate": 1e-3 if optimizer == "AdamW" else 1.0},
        "network": {"dropout": 0.1},
        "dataset": {"shuffle_caption": True, "caption_dropout_rate": 0.2},
    }
    whole = list(train(make_config(output_name="whole", **settings), tiny_host))
    config = make_config(output_name="parts", **settings)
    stop_after(config, tiny_host, stop)
    rest = list(train(config, tiny_host))

    assert rest[-1].trained_steps == 2 * STEPS_PER_EPOCH - stop
    for ours, theirs in zip(weights_of(rest), weights_of(whole), strict=True):
        assert_same_weights(ours, theirs)
    logged = read_measurements(rest[-1].folder / "events.jsonl")
    assert [each.step for each in logged][-1] == 2 * STEPS_PER_EPOCH


def test_a_finished_run_is_returned_without_training(tiny_host, make_config):
    config = make_config()
    first = list(train(config, tiny_host))
    again = list(train(config, tiny_host))
    assert not of_kind(again, Stepped) and again[-1].trained_steps == 0
    assert again[-1].epochs == first[-1].epochs


def test_other_settings_get_a_folder_of_their_own(tiny_host, make_config):
    first = list(train(make_config(), tiny_host))[-1]
    second = list(train(make_config(network={"rank": 2}), tiny_host))[-1]
    assert first.folder.name == "thing" and second.folder.name == "thing-2"
    assert [path.stem for _, path in second.epochs] == ["thing-2-000001", "thing-2-000002"]


@pytest.mark.parametrize("way_out", ["finished", "cancelled", "failed"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_host_is_bit_for_bit_as_before(tiny_host, make_config, monkeypatch, way_out, checkpointing):
    weights, picture = base_weights(tiny_host), picture_of(tiny_host)
    marks = _marks(tiny_host)
    config = make_config(gradient_checkpointing=checkpointing)
    if way_out == "finished":
        list(train(config, tiny_host))
    elif way_out == "cancelled":
        stop_after(config, tiny_host, 3)
    else:
        _fail_at_step(monkeypatch, tiny_host, 3)
        with pytest.raises(TrainingError, match="out of memory"):
            list(train(config, tiny_host))
        monkeypatch.undo()

    after = base_weights(tiny_host)
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert np.array_equal(picture_of(tiny_host), picture)
    assert _marks(tiny_host) == marks


def _marks(host):
    """What training might leave on a module: attributes of its own and hooks."""
    return {
        f"{component}.{name}": (set(vars(module)), list(module._forward_hooks), list(module._forward_pre_hooks))
        for component, trunk in host.components().items()
        for name, module in trunk.named_modules()
    }


def _fail_at_step(monkeypatch, host, step):
    calls, predict = itertools.count(1), host.predict

    def failing(*args):
        if next(calls) > step:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return predict(*args)

    monkeypatch.setattr(host, "predict", failing)


def test_what_was_trained_before_a_failure_is_kept(tiny_host, make_config, monkeypatch):
    whole = list(train(make_config(output_name="whole"), tiny_host))
    config = make_config(output_name="parts")
    _fail_at_step(monkeypatch, tiny_host, 7)
    with pytest.raises(TrainingError, match="ran out of memory"):
        list(train(config, tiny_host))
    monkeypatch.undo()
    rest = list(train(config, tiny_host))
    assert rest[-1].trained_steps == 3
    assert_same_weights(weights_of(rest)[-1], weights_of(whole)[-1])


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:120] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["CUDA", "MPS", "CPU", "Python"],
)
def test_memory_that_runs_out_is_told_with_the_cures_that_are_left(tiny_host, make_config, monkeypatch, error):
    def failing(*_):
        raise error

    monkeypatch.setattr(tiny_host, "predict", failing)
    cures = r"lower batch_size \(now 2\) or turn gradient_checkpointing on or lower resolution \(now 64\)"
    with pytest.raises(TrainingError, match=f"cpu ran out of memory.*{cures}.*is kept") as told:
        list(train(make_config(), tiny_host))
    assert told.value.__context__ is None, "the error's frames would keep the step's memory"
    with pytest.raises(TrainingError) as told:
        list(train(make_config(dataset={"batch_size": 1}, gradient_checkpointing=True), tiny_host))
    assert "batch_size" not in str(told.value) and "checkpointing" not in str(told.value)


def test_other_errors_are_not_taken_for_memory(tiny_host, make_config, monkeypatch):
    def failing(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(tiny_host, "predict", failing)
    with pytest.raises(RuntimeError, match="shapes"):
        list(train(make_config(), tiny_host))


def test_a_loss_that_is_not_a_number_stops_in_one_sentence_and_loses_nothing(tiny_host, make_config, monkeypatch):
    calls, predict = itertools.count(1), tiny_host.predict
    monkeypatch.setattr(
        tiny_host, "predict", lambda *args: predict(*args) * (float("nan") if next(calls) > STEPS_PER_EPOCH else 1.0)
    )
    config = make_config(max_train_epochs=4)
    events = []
    with pytest.raises(TrainingError, match=r"step \d+ is not a number \(pictures: .*\.png.*lower the learning rate"):
        for event in train(config, tiny_host):
            events.append(event)
    saved = of_kind(events, Saved)
    assert saved and all(tensor.isfinite().all() for tensor in load_file(saved[0].path).values())
    state = load_file(Path(config.output_dir) / "thing" / "resume.state")
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


def test_a_single_bad_step_is_left_out_and_said(tiny_host, make_config, monkeypatch):
    calls, predict = itertools.count(1), tiny_host.predict
    monkeypatch.setattr(
        tiny_host, "predict", lambda *args: predict(*args) * (float("inf") if next(calls) == 4 else 1.0)
    )
    events = list(train(make_config(), tiny_host))
    assert [event.message for event in of_kind(events, Warned) if "step 4 is not a number" in event.message]
    assert all(tensor.isfinite().all() for tensor in weights_of(events)[-1].values())


def test_accumulated_batches_weigh_alike_the_short_last_window_too(tiny_host, make_config, monkeypatch):
    from trainer_core.learner import Learner

    seen = []
    backward = Learner.backward
    monkeypatch.setattr(
        Learner, "backward", lambda self, loss: (seen.append(float(loss.detach())), backward(self, loss))
    )
    single = list(train(make_config(output_name="single", optimizer={"learning_rate": 0.0001}), tiny_host))
    events = list(train(make_config(gradient_accumulation_steps=2, max_train_epochs=1), tiny_host))
    plan = events[0].plan
    assert plan.steps_per_epoch == 3 and [len(window) for window in plan.windows(1)] == [2, 2, 1]
    measured = [each.loss for event in of_kind(events, Measured) for each in event.measurements]
    parts = seen[len(of_kind(single, Stepped)) :]
    assert measured == pytest.approx([parts[0] + parts[1], parts[2] + parts[3], parts[4]], rel=1e-5)


def test_cached_captions_train_what_fresh_ones_do(tiny_host, make_config, monkeypatch):
    from trainer_core.data.cache import TextCache

    settings = {"network": {"train_text_encoder": False}, "dataset": {"shuffle_caption": True}}
    cached = list(train(make_config(output_name="cached", **settings), tiny_host))
    assert [event for event in of_kind(cached, Cached) if event.what == "captions"]
    monkeypatch.setattr(TextCache, "get", lambda self, captions: self._encode(captions))
    fresh = list(train(make_config(output_name="fresh", **settings), tiny_host))
    for key, tensor in weights_of(cached)[-1].items():
        assert torch.allclose(tensor, weights_of(fresh)[-1][key], atol=1e-5), key


def test_the_parts_that_are_switched_off_are_not_in_the_file(tiny_host, make_config):
    unet_only = weights_of(list(train(make_config(network={"train_text_encoder": False}), tiny_host)))[-1]
    text_only = weights_of(list(train(make_config(network={"train_unet": False}), tiny_host)))[-1]
    frozen = weights_of(list(train(make_config(optimizer={"text_encoder_lr": 0}), tiny_host)))[-1]
    assert all(key.startswith("lora_unet_") for key in [*unet_only, *frozen])
    assert all(key.startswith("lora_te_") for key in text_only)


def test_bf16_trains_near_what_fp32_trains(tiny_host, make_config):
    exact = list(train(make_config(), tiny_host))
    coarse = list(train(make_config(mixed_precision="bf16"), tiny_host))
    losses = [
        [each.loss for event in of_kind(events, Measured) for each in event.measurements] for events in (exact, coarse)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert coarse[-1].folder != exact[-1].folder


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"dataset": {"folder": "nowhere/to/be/found"}}, DataError, "does not exist"),
        ({"network": {"train_unet": False, "train_text_encoder": False}}, ConfigError, "train_unet"),
        ({"network": {"algo": "lorra"}}, ConfigError, 'did you mean "lora"'),
        ({"optimizer": {"optimizer": "Prodgy"}}, ConfigError, 'did you mean "Prodigy"'),
        ({"optimizer": {"optimizer_args": "decuple=True"}}, ConfigError, "decuple"),
        ({"optimizer": {"lr_scheduler": "cosin"}}, ConfigError, 'did you mean "cosine"'),
        ({"loss": {"zero_terminal_snr": True}}, ConfigError, "velocity"),
        ({"output_name": "../escape"}, RunError, "output_name"),
    ],
)
def test_bad_settings_are_one_sentence_before_training(tiny_host, make_config, changes, error, words):
    with pytest.raises(error, match=words) as caught:
        list(train(make_config(**changes), tiny_host))
    assert "\n" not in str(caught.value)


def test_an_unwritable_output_folder_is_said_before_training(tiny_host, make_config, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="choose another output_dir"):
        list(train(make_config(output_dir=str(tmp_path / "file")), tiny_host))


def test_two_trainings_cannot_write_to_one_run(tiny_host, make_config):
    first = train(make_config(), tiny_host)
    for event in first:
        if isinstance(event, Stepped):
            break
    with pytest.raises(RunError, match="another training"):
        list(train(make_config(), tiny_host))
    first.close()


def test_a_job_cancels_within_a_step_and_goes_on_later(tiny_host, make_config):
    config = make_config(max_train_epochs=6)
    job = Job(lambda: train(config, tiny_host)).start()
    steps = 0
    for event in job.events():
        if isinstance(event, Stepped):
            steps += 1
            job.cancel()
    assert steps <= 2 and not job.is_alive
    events = list(Job(lambda: train(make_config(max_train_epochs=6), tiny_host)).start())
    assert events[-1].trained_steps == 6 * STEPS_PER_EPOCH - steps


def test_a_job_cancelled_in_a_preview_stops_within_a_sampler_step_and_goes_on_later(tiny_host, make_config):
    config = make_config(max_train_epochs=2, sample={"prompts": ["a thing", "another"], "steps": 20})
    sampler_steps = []

    def pressed_in_the_third() -> bool:
        sampler_steps.append(1)
        if len(sampler_steps) == 3:
            job.cancel()
        return job.is_cancelled

    job = Job(lambda: train(config, tiny_host, pressed_in_the_third)).start()
    events = list(job)
    assert len(sampler_steps) == 3
    assert not of_kind(events, Sampled) and "cut short" in events[-1].message
    assert len(of_kind(events, Stepped)) == STEPS_PER_EPOCH
    rest = list(train(make_config(max_train_epochs=2), tiny_host))
    assert rest[-1].trained_steps == STEPS_PER_EPOCH


def test_the_layer_that_the_host_reads_prompts_from_is_trained_on_unless_one_is_set(
    tiny_host, make_config, monkeypatch
):
    usual = list(train(make_config(max_train_epochs=1), tiny_host))[-1]
    monkeypatch.setattr(type(tiny_host), "clip_skip", property(lambda _: 2))
    followed = list(train(make_config(max_train_epochs=1), tiny_host))[-1]
    stated = list(train(make_config(max_train_epochs=1, clip_skip=1), tiny_host))[-1]
    assert stated.folder == usual.folder and followed.folder != usual.folder
    layers = [load_lora(each.epochs[0][1])[1]["ss_clip_skip"] for each in (usual, followed)]
    assert layers == ["1", "2"]
    ours, theirs = (weights_of([each])[0] for each in (usual, followed))
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
