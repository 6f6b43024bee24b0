"""The loop with optimizers and schedules that packages bring."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from trainer_core.events import Finished, Measured, Planned, Stepped, Warned
from trainer_core.train import train


def run(config, host, steps=None):
    """Every event, or those up to that many optimizer steps, as a cancel leaves them."""
    events, stream = [], train(config, host)
    for event in stream:
        events.append(event)
        if steps and sum(isinstance(each, Stepped) for each in events) == steps:
            break
    stream.close()
    return events


def files(events):
    finished = next(event for event in events if isinstance(event, Finished))
    return [load_file(path) for _, path in finished.epochs]


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_schedule_free_run_saves_its_average_and_resumes_exactly(tiny_host, make_config, monkeypatch):
    package = pytest.importorskip("prodigyplus")
    settings = {"optimizer": {"optimizer": "ProdigyPlusScheduleFree", "learning_rate": 1.0, "lr_scheduler": "constant"}}
    settings["optimizer"]["optimizer_args"] = "d0=1e-3"
    whole = files(run(make_config(output_name="whole", **settings), tiny_host))

    config = make_config(output_name="parts", **settings)
    run(config, tiny_host, steps=7)  # behind an epoch that was saved
    assert_equal(files(run(config, tiny_host)), whole)

    monkeypatch.setattr(package.ProdigyPlusScheduleFree, "eval", lambda self: None)
    unaveraged = files(run(make_config(output_name="unaveraged", **settings), tiny_host))
    assert any(not torch.equal(unaveraged[-1][key], whole[-1][key]) for key in whole[-1])


def test_a_class_of_torch_and_a_schedule_of_torch_train_and_warn(tiny_host, make_config):
    optimizer = {
        "optimizer": "Prodigy",
        "optimizer_type": "torch.optim.RAdam",
        "learning_rate": 1e-3,
        "lr_scheduler_type": "CosineAnnealingLR",
        "lr_scheduler_args": "T_max=4",
    }
    events = run(make_config(optimizer=optimizer), tiny_host)
    plan = next(event for event in events if isinstance(event, Planned)).plan
    assert plan.lr_factors[:5] == pytest.approx((1, 0.8535534, 0.5, 0.1464466, 0))
    assert any("T_max=total" in event.message for event in events if isinstance(event, Warned))
    measured = [each for event in events if isinstance(event, Measured) for each in event.measurements]
    assert [each.lr["unet"] for each in measured] == pytest.approx([1e-3 * factor for factor in plan.lr_factors])
    assert files(events)[0]


def test_the_old_guides_rates_are_the_text_encoders(tiny_host, make_config):
    optimizer = {"optimizer": "DAdaptation", "learning_rate": 1.0, "text_encoder_lr": 0.5, "lr_groups": "legacy_single"}
    optimizer["lr_scheduler"] = "constant"
    events = run(make_config(optimizer=optimizer, network={"train_text_encoder": True}), tiny_host)
    measured = [each for event in events if isinstance(event, Measured) for each in event.measurements]
    assert measured
    assert measured[0].lr == pytest.approx({"unet": 0.5e-6, "te1": 0.5e-6})
    assert all(each.lr["unet"] == each.lr["te1"] for each in measured)
