"""What a run does about a spike of d·lr: say it, stop before it, or go back and end there; bit for bit when resumed."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from trainer_core.events import Finished, Spiked, Stepped, TurnedBack, Warned
from trainer_core.files.event_log import read_measurements, read_spikes
from trainer_core.optim.schedules import learning_rate_factors
from trainer_core.plan import cut_plan, determining_values, make_plan
from trainer_core.spikes import SpikeDetector
from trainer_core.train import train

STEPS_PER_EPOCH = 5
SPIKE = 13  # in the third of four epochs


@pytest.fixture
def spiking(monkeypatch):
    """Runs whose d leaps at a step, each time that this step is made."""

    def spike_at(at: int) -> None:
        def find(self, measurements):
            yield from (Spiked(each.step, each.epoch, 3.0) for each in measurements if each.step == at)

        monkeypatch.setattr(SpikeDetector, "find", find)

    spike_at(SPIKE)
    return spike_at


@pytest.fixture
def config(make_config):
    def make(name: str, on_spike: str, **changes):
        values = {
            "output_name": name,
            "on_spike": on_spike,
            "max_train_epochs": 4,
            "optimizer": {"optimizer": "Prodigy", "learning_rate": 1.0, "lr_scheduler": "cosine"},
            "network": {"dropout": 0.1},
        }
        return make_config(**{**values, **changes})

    return make


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def epochs_of(events) -> dict[int, dict[str, torch.Tensor]]:
    return {number: load_file(path) for number, path in of_kind(events, Finished)[0].epochs}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for epoch in ours:
        assert all(torch.equal(ours[epoch][key], theirs[epoch][key]) for key in theirs[epoch]), epoch


def stop_after(config, host, steps: int):
    """Train and close the generator right after that many optimizer steps, as a cancel does."""
    stream, taken = train(config, host), 0
    for event in stream:
        taken += isinstance(event, Stepped)
        if taken == steps:
            break
    stream.close()


def test_warn_names_step_and_epoch_and_trains_on(tiny_host, config, spiking):
    events = list(train(config("warned", "warn"), tiny_host))
    assert [event.step for event in of_kind(events, Spiked)] == [SPIKE]
    assert [w.message for w in of_kind(events, Warned) if f"step {SPIKE}, in epoch 3" in w.message]
    assert events[-1].trained_steps == 20 and list(epochs_of(events)) == [1, 2, 3, 4]
    assert [spike.step for spike in read_spikes(events[-1].folder / "events.jsonl")] == [SPIKE]


def test_a_spike_at_the_last_step_is_none(tiny_host, config, spiking):
    spiking(20)
    assert not of_kind(train(config("last", "cut"), tiny_host), Spiked)


def test_cut_goes_back_to_the_epoch_before_and_ends_at_the_spike(tiny_host, config, spiking):
    sound = list(train(config("sound", "warn"), tiny_host))
    events = list(train(config("cut", "cut"), tiny_host))

    [turned] = of_kind(events, TurnedBack)
    assert (turned.step, turned.total_steps) == (10, SPIKE)
    after = [event.step for event in events[events.index(turned) :] if isinstance(event, Stepped)]
    assert after == [11, 12, 13]
    epochs, same = epochs_of(events), epochs_of(sound)
    assert list(epochs) == [1, 2, 3]
    assert_same({1: epochs[1], 2: epochs[2]}, {1: same[1], 2: same[2]})
    logged = read_measurements(events[-1].folder / "events.jsonl")
    assert [each.step for each in logged] == list(range(1, SPIKE + 1))
    planned = learning_rate_factors("cosine", 20)[:10] + learning_rate_factors("cosine", SPIKE)[10:]
    ds = [each.lr["unet"] / factor for each, factor in zip(logged, planned, strict=True)]
    assert ds[1:] == pytest.approx([each.d for each in logged[:-1]], rel=1e-5)


@pytest.mark.parametrize("on_spike", ["cut", "stop"])
def test_a_queued_run_that_was_cut_is_finished(tiny_host, config, spiking, on_spike):
    first = list(train(config("once", on_spike), tiny_host))
    again = list(train(config("once", on_spike), tiny_host))
    assert not of_kind(again, Stepped) and again[-1].epochs == first[-1].epochs


@pytest.mark.parametrize("on_spike", ["cut", "stop"])
@pytest.mark.parametrize("stop", [3, 12, 14, 16])
def test_resume_equals_uninterrupted_run(tiny_host, config, spiking, on_spike, stop):
    whole = list(train(config("whole", on_spike), tiny_host))
    stop_after(config("parts", on_spike), tiny_host, stop)
    rest = list(train(config("parts", on_spike), tiny_host))
    assert_same(epochs_of(rest), epochs_of(whole))
    if on_spike == "cut":  # under stop, the first session may have ended the run
        assert [event.total_steps for event in of_kind(rest, TurnedBack)] == [SPIKE]
    logs = [read_measurements(events[-1].folder / "events.jsonl") for events in (rest, whole)]
    assert logs[0] == logs[1]


def test_whatever_learns_is_turned_back(tiny_host, config, spiking):
    settings = {
        "optimizer": {"optimizer_type": "torch.optim.RAdam", "learning_rate": 1e-3},
        "ema_decay": 0.9,
        "mixed_precision": "bf16",
        "gradient_accumulation_steps": 2,
        "max_train_epochs": 6,  # of three steps
    }
    whole = list(train(config("whole", "cut", **settings), tiny_host))
    assert [event.step for event in of_kind(whole, TurnedBack)] == [12]
    stop_after(config("parts", "cut", **settings), tiny_host, 14)
    assert_same(epochs_of(list(train(config("parts", "cut", **settings), tiny_host))), epochs_of(whole))


def test_a_spike_that_was_read_only_when_the_run_was_closed_is_acted_on(tiny_host, config, spiking, monkeypatch):
    from trainer_core.meter import Meter

    whole = list(train(config("whole", "cut"), tiny_host))
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "due", lambda self: iter(()))
        stop_after(config("parts", "cut"), tiny_host, SPIKE + 1)  # the epoch ends a step later
    rest = list(train(config("parts", "cut"), tiny_host))
    assert [event.step for event in of_kind(rest, TurnedBack)] == [10]
    assert [event.step for event in of_kind(rest, Spiked)] == [SPIKE]
    assert_same(epochs_of(rest), epochs_of(whole))


def test_stop_ends_with_the_epoch_before(tiny_host, config, spiking):
    sound = list(train(config("sound", "warn"), tiny_host))
    events = list(train(config("stopped", "stop"), tiny_host))
    assert_same(epochs_of(events), {1: epochs_of(sound)[1], 2: epochs_of(sound)[2]})
    assert len(read_measurements(events[-1].folder / "events.jsonl")) == 10
    assert json.loads((events[-1].folder / "run.json").read_text())["spiked_step"] == SPIKE


@pytest.mark.parametrize("on_spike", ["cut", "stop"])
def test_the_epoch_before_is_kept_whatever_is_saved_otherwise(tiny_host, config, spiking, on_spike):
    events = list(train(config("kept", on_spike, save_every_n_epochs=3), tiny_host))
    assert 2 in epochs_of(events)


@pytest.mark.parametrize("on_spike", ["cut", "stop"])
def test_in_the_first_epoch_the_run_starts_over_and_ends_at_the_spike(tiny_host, config, spiking, on_spike):
    spiking(4)
    events = list(train(config("early", on_spike), tiny_host))
    assert list(epochs_of(events)) == [1]
    assert [each.step for each in read_measurements(events[-1].folder / "events.jsonl")] == [1, 2, 3, 4]


def test_numbers_that_fail_after_the_spike_do_not_fail_the_run(tiny_host, config, spiking, monkeypatch):
    predict = tiny_host.predict
    calls = iter(range(1000))
    monkeypatch.setattr(
        tiny_host, "predict", lambda *given: predict(*given) * (float("nan") if 13 <= next(calls) < 20 else 1.0)
    )
    from trainer_core.meter import Meter

    monkeypatch.setattr(Meter, "due", lambda self: iter(()))
    events = list(train(config("nan", "stop"), tiny_host))
    assert list(epochs_of(events)) == [1, 2]


def test_a_leap_of_prodigys_own_d_is_cut_out(tiny_host, config, monkeypatch):
    from trainer_core.optim.flat_optimizer import FlatOptimizer

    step = FlatOptimizer.step

    def leaping(self, lr_factor):
        step(self, lr_factor)
        if int(self._numbers["k"]) == 72:
            leapt = {name: self._numbers[name] * 4 for name in ("d", "d_max")}
            self._numbers = {**self._numbers, **leapt}

    monkeypatch.setattr(FlatOptimizer, "step", leaping)
    events = list(train(config("leap", "cut", max_train_epochs=16, save_every_n_epochs=7), tiny_host))
    assert [(spike.step, spike.rise) for spike in of_kind(events, Spiked)] == [(72, pytest.approx(4, rel=0.05))]
    assert [(event.step, event.total_steps) for event in of_kind(events, TurnedBack)] == [(70, 72)]
    assert list(epochs_of(events)) == [7, 14, 15]


def test_a_fixed_warm_up_fits_into_what_is_left(make_config):
    plan = make_plan(make_config(on_spike="cut", optimizer={"lr_warmup_steps": "8"}))
    assert len(cut_plan(plan, 6).lr_factors) == 6


def test_what_no_longer_fits_leaves_the_beginning_of_the_schedule(make_config):
    schedule = {"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": "8"}
    plan = make_plan(make_config(on_spike="cut", optimizer=schedule))
    assert cut_plan(plan, 6).lr_factors == plan.lr_factors[:6]


def test_t_max_becomes_the_new_end(make_config):
    schedule = {"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": "T_max=200"}
    plan = make_plan(make_config(on_spike="cut", optimizer=schedule))
    assert cut_plan(plan, 6).lr_factors == pytest.approx(learning_rate_factors("cosine", 6))


def test_only_what_acts_on_a_spike_makes_another_run(make_config):
    quiet = determining_values(make_config(spike_ratio=3.0, log_with="tensorboard", logging_dir="here"))
    assert quiet == determining_values(make_config())
    assert determining_values(make_config(on_spike="cut", spike_ratio=3.0)) != determining_values(
        make_config(on_spike="cut")
    )


@pytest.mark.parametrize("where", ["", "elsewhere"])
def test_tensorboards_files_stand_in_the_run_or_where_one_says(tiny_host, config, spiking, tmp_path, where):
    logging_dir = str(tmp_path / where) if where else ""
    settings = config("logged", "cut", log_with="tensorboard", logging_dir=logging_dir)
    stop_after(settings, tiny_host, 7)
    events = list(train(settings, tiny_host))
    folder = tmp_path / where / "logged" if where else events[-1].folder / "logs"
    from tests.files.test_scalars import read

    shown = read(folder)
    assert [step for step, _ in shown["lr/d*lr/unet"]] == list(range(1, SPIKE + 1))
    assert [epoch for epoch, _ in shown["loss/epoch_average"]] == [1, 2]
    logged = read_measurements(events[-1].folder / "events.jsonl")
    assert [value for _, value in shown["loss/current"]] == pytest.approx([each.loss for each in logged])
