"""Whole runs: cancelled, failed, resumed and finished, and the base model untouched by each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .given_back import OutOfMemory
from .loaded import SIDE, load, require_same_state
from .registry import check, report


def dataset_of(folder: Path) -> Path:
    """Four plain pictures with captions."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(("red", "green", "blue", "yellow")):
        Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {colour} square")
    return folder


def run_config(folder: Path, **changes: Any) -> Any:
    from trainer_core.config import DatasetConfig, NetworkConfig, OptimizerConfig, SampleConfig, TrainConfig

    config = TrainConfig(
        output_name="square",
        output_dir=str(folder / "loras"),
        dataset=DatasetConfig(folder=str(dataset_of(folder / "pictures")), resolution=SIDE, min_bucket_reso=SIDE),
        network=NetworkConfig(rank=4, alpha=4.0),
        optimizer=OptimizerConfig(optimizer="AdamW", learning_rate=1e-2),
        sample=SampleConfig(prompts=("a red square",), steps=2, cfg=3.0),
        max_train_epochs=2,
        save_precision="fp32",
    )
    return replace(config, **changes)


@check("sd1", "sdxl")
def check_the_base_model_is_untouched_by_whole_runs(path: Path) -> None:
    import torch

    from trainer_core.events import Finished, Saved, Stepped
    from trainer_core.job import Job
    from trainer_core.train import train

    loaded = load(path)
    first, before = loaded.picture(), loaded.state()

    def require_untouched(after_what: str) -> None:
        require_same_state(before, loaded.state())
        assert torch.equal(loaded.picture(), first), f"another picture after {after_what}"

    def run(config: Any, host: Any) -> Iterator[Any]:
        job = Job(lambda: train(config, host)).start()
        for event in job:
            yield event
            if isinstance(event, Stepped) and event.step == stop_at[0]:
                job.cancel()

    stop_at = [3]
    config = run_config(path.parent / f"run_{path.stem}")
    cancelled = list(run(config, loaded.host))
    assert not any(isinstance(event, Finished) for event in cancelled)
    require_untouched("a cancel")

    host = loaded.host
    predict, calls = host.predict, [0]

    def failing(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise OutOfMemory("no more memory")
        return predict(*args)

    stop_at[0] = -1
    host.predict = failing
    try:
        list(run(config, host))
    except OutOfMemory:
        pass
    else:
        raise AssertionError("the failure was swallowed")
    require_untouched("a failure")

    events = list(run(config, loaded.host))
    require_untouched("a whole run")
    assert isinstance(events[-1], Finished)
    assert len(events[-1].epochs) == 2
    assert 0 < events[-1].trained_steps < 8, "it did not go on from where it was stopped"
    saved = [event for event in events if isinstance(event, Saved)][-1]
    assert not any(event for event in list(run(config, loaded.host)) if isinstance(event, Stepped)), "trained twice"
    require_untouched("a finished run's return")
    report(f"{events[-1].trained_steps} steps after the stop; {saved.path.name}")
