"""One training on the tiny world with some settings and one seed, judged at every epoch."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..demo.character import write_dataset
from ..demo.judging import judged
from ..demo.metrics import EpochScores
from ..demo.run import WORLD, demo_config, quiet_libraries
from ..errors import TrainingError
from ..events import Measured, Measurement, Saved
from ..hosts.diffusers import load_host
from ..settings import from_json, merged, to_json
from ..train import train

# five epochs of 64 steps at batch 4: two thirds of the demo, which is enough to see a LoRA arrive and leave
EPOCHS, REPEATS = 5, 16
_SAMPLING_SEEDS = (1,)
# the demo raises d_coef to overfit within its nine epochs; here that is an arm's to say
_PRODIGY = {"optimizer": {"optimizer_args": "betas=0.9,0.99 use_bias_correction=True safeguard_warmup=True"}}
_CURVE_POINTS = 100


@dataclass(frozen=True)
class Trial:
    """What one training came to.

    epochs: scores of each, in order. rates, losses: (step, d · lr of the UNet) and (step, loss) over the run, at most
    about a hundred points. d: the learned distance at the end, None where nothing is learned. failure: why it ended
    early, or ""."""

    arm: str
    seed: int
    epochs: tuple[EpochScores, ...]
    rates: tuple[tuple[int, float], ...]
    losses: tuple[tuple[int, float], ...]
    d: float | None
    file_bytes: int
    seconds: float
    failure: str = ""

    @property
    def best(self) -> EpochScores:
        """The epoch with the highest total; among equals the first."""
        return max(self.epochs, key=lambda scores: scores.total)

    @property
    def last(self) -> EpochScores:
        """The last epoch's scores."""
        return self.epochs[-1]


def run_trial(arm: str, settings: Mapping[str, Any], seed: int) -> Trial:
    """Train the demo's character with `settings` (nested, over the demo's own) and judge every epoch.

    A training that fails for its numbers is a result too: its epochs so far count."""
    quiet_libraries()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lazylora-trial-") as folder:
        output = Path(folder)
        write_dataset(output / "dataset", REPEATS)
        config = from_json(
            TrainConfig,
            merged(
                merged(to_json(demo_config(output)), _PRODIGY), {"seed": seed, "max_train_epochs": EPOCHS, **settings}
            ),
        )
        host = load_host(WORLD, "cpu")
        measurements: list[Measurement] = []
        saved: list[Saved] = []
        failure = ""
        try:
            for event in train(config, host):
                if isinstance(event, Measured):
                    measurements.extend(event.measurements)
                elif isinstance(event, Saved):
                    saved.append(event)
        except TrainingError as error:
            failure = str(error)
        epochs = {each.epoch: each.state_dict for each in saved}
        scores = judged(host, config, {0: {}, **epochs}, _SAMPLING_SEEDS, is_quiet=True)[1][1:]
        return Trial(
            arm=arm,
            seed=seed,
            epochs=tuple(scores),
            rates=_thin([(each.step, each.lr["unet"]) for each in measurements]),
            losses=_thin([(each.step, each.loss) for each in measurements]),
            d=measurements[-1].d,
            file_bytes=saved[-1].path.stat().st_size if saved else 0,
            seconds=time.monotonic() - started,
            failure=failure,
        )


def save_trial(trial: Trial, path: Path) -> None:
    """Keep a trial as JSON, so that an interrupted series goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(trial)) + "\n", encoding="utf-8")


def load_trial(path: Path) -> Trial:
    """The trial that `save_trial` has kept."""
    values = json.loads(path.read_text(encoding="utf-8"))
    points = {name: tuple((int(step), value) for step, value in values[name]) for name in ("rates", "losses")}
    epochs = tuple(EpochScores(**scores) for scores in values["epochs"])
    return Trial(**{**values, **points, "epochs": epochs})


def _thin(points: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    stride = max(1, len(points) // _CURVE_POINTS)
    return tuple(points[::stride])
