"""Every preset trains as it stands: planned, stepped and saved, on a model that fits into a test."""

from __future__ import annotations

import pytest

from trainer_core.events import Finished, Saved
from trainer_core.recipes.presets import PRESETS
from trainer_core.settings import merged
from trainer_core.train import train

# what a test must change: pictures of its own size, and an end within a step or two
SMALL = {
    "max_train_epochs": 1,
    "clip_skip": 1,
    "dataset": {"resolution": 64, "min_bucket_reso": 64, "bucket_reso_steps": 8, "batch_size": 4},
}


@pytest.mark.parametrize("name", PRESETS.names())
def test_every_preset_trains(name, make_config, tiny_host):
    events = list(train(make_config(**merged(PRESETS.get(name).values, SMALL)), tiny_host))
    assert isinstance(events[-1], Finished) and events[-1].trained_steps
    assert any(isinstance(event, Saved) for event in events)
