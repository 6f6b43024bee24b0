"""The demo: teach the tiny world a character it has never seen, sample every epoch, and say which one to keep."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from ..config import TrainConfig
from ..console import shown
from ..events import Finished
from ..files.event_log import read_measurements, read_spikes
from ..files.lora_file import load_lora
from ..grid import labelled_grid
from ..hosts.diffusers import load_host
from ..plots import curves
from ..settings import from_json, to_json
from ..train import train
from .canvas import SIZE
from .character import CONTROL_PROMPTS, TRIGGER, test_prompts, write_dataset
from .judging import Pictures, judged
from .metrics import EpochScores, RankedEpoch, rank_epochs

WORLD = Path(__file__).parent / "world"
SHOWN_PROMPTS = (0, 1, 4, 6, 7, 8)  # of test_prompts(): plain colours, stripes, scenes, a place
SHOWN_CONTROLS = (0, 1)


def run_demo(output: Path) -> None:
    """Train on the embedded model and write the epochs, xyz.png, curves.png and report.json into `output`.

    About two minutes on two CPU cores. A demo that was interrupted goes on; a finished one is only judged anew."""
    started = time.monotonic()
    quiet_libraries()
    host = load_host(WORLD, "cpu")
    write_dataset(output / "dataset")
    config = demo_config(output)
    finished = list(shown(train(config, host)))[-1]
    assert isinstance(finished, Finished)
    trained_in = time.monotonic() - started

    epochs = {0: {}} | {number: load_lora(path)[0] for number, path in finished.epochs}
    pictures, scores = judged(host, config, epochs)
    ranking = rank_epochs(scores[1:])
    _draw_grid(pictures, ranking).save(output / "xyz.png")
    log = finished.folder / "events.jsonl"
    curves(read_measurements(log), spikes=read_spikes(log)).save(output / "curves.png")
    report = _report(config, finished, scores, ranking, trained_in, time.monotonic() - started)
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(_summary(output, finished, ranking))


def demo_config(output: Path) -> TrainConfig:
    """The demo's settings: what a person who chooses nothing gets, at the tiny world's size, but faster and for longer
    than is good for it (d_coef), so that there are epochs before the best and behind it."""
    return from_json(
        TrainConfig,
        {
            "output_name": TRIGGER,
            "output_dir": str(output / "loras"),
            "max_train_epochs": 9,
            "seed": 1,
            "dataset": {
                "folder": str(output / "dataset"),
                "resolution": SIZE,
                "batch_size": 4,
                "caption_dropout_rate": 0.05,
            },
            "network": {"algo": "locon", "rank": 16, "alpha": 16},
            "optimizer": {
                "optimizer": "Prodigy",
                "optimizer_args": "betas=0.9,0.99 use_bias_correction=True safeguard_warmup=True d_coef=2.5",
                "lr_scheduler": "constant",
            },
        },
    )


def _draw_grid(pictures: Mapping[int, Pictures], ranking: list[RankedEpoch]) -> Image.Image:
    """Columns: without a LoRA and each epoch. Rows: prompts the dataset never showed, then ones without the mascot."""
    verdicts = {ranked.scores.epoch: ranked.verdict for ranked in ranking}
    columns = ["without LoRA", *(f"epoch {number}: {verdicts[number]}" for number in sorted(verdicts))]
    prompts = test_prompts()
    answers = [[_enlarged(pictures[n].answers[row]) for n in sorted(pictures)] for row in SHOWN_PROMPTS]
    controls = [[_enlarged(pictures[n].controls[row]) for n in sorted(pictures)] for row in SHOWN_CONTROLS]
    rows = [*(prompts[row].text for row in SHOWN_PROMPTS), *(CONTROL_PROMPTS[row] for row in SHOWN_CONTROLS)]
    return labelled_grid([*answers, *controls], columns, rows)


def _enlarged(picture: Image.Image) -> Image.Image:
    return picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.LANCZOS)


def _report(
    config: TrainConfig,
    finished: Finished,
    scores: list[EpochScores],
    ranking: list[RankedEpoch],
    trained_in: float,
    took: float,
) -> dict:
    places = {ranked.scores.epoch: place for place, ranked in enumerate(ranking, start=1)}
    judged = {ranked.scores.epoch: ranked for ranked in ranking}
    files = {number: path.name for number, path in finished.epochs}
    return {
        "best_epoch": ranking[0].scores.epoch,
        "without_lora": dataclasses.asdict(scores[0]),
        "epochs": [
            {
                **dataclasses.asdict(each),
                "file": files[each.epoch],
                "place": places[each.epoch],
                "verdict": judged[each.epoch].verdict,
                "why": judged[each.epoch].why,
            }
            for each in scores[1:]
        ],
        "training_seconds": round(trained_in, 1),
        "seconds": round(took, 1),
        "settings": to_json(config),
    }


def _summary(output: Path, finished: Finished, ranking: list[RankedEpoch]) -> str:
    lines = [f"epoch {ranked.scores.epoch}: {ranked.verdict} ({ranked.why})" for ranked in ranking]
    best = dict(finished.epochs)[ranking[0].scores.epoch]
    return "\n".join(
        [
            "",
            *lines,
            "",
            f"epochs    {finished.folder}",
            f"grid      {output / 'xyz.png'}",
            f"curves    {output / 'curves.png'}",
            f"report    {output / 'report.json'}",
            f"best      {best}",
        ]
    )


def quiet_libraries() -> None:
    """The demo's own lines are enough for a newcomer."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
