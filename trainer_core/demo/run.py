"""The demo: teach the tiny world a character it has never seen, sample every epoch, and say which one to keep."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import TrainConfig
from ..console import shown
from ..events import Finished
from ..files.event_log import read_measurements
from ..files.lora_file import load_lora
from ..grid import labelled_grid
from ..hosts.base import SampleRequest, TextOptions
from ..hosts.diffusers import DiffusersHost, load_host
from ..networks.network import build_network
from ..plots import curves
from ..settings import from_json, to_json
from ..train import train
from .canvas import SIZE
from .character import CONTROL_PROMPTS, TRIGGER, held_out_portraits, test_prompts, training_portraits, write_dataset
from .metrics import EpochScores, RankedEpoch, held_out_loss, rank_epochs, score_epoch

WORLD = Path(__file__).parent / "world"
SEEDS = (1, 2)
SHOWN_PROMPTS = (0, 1, 4, 6, 7, 8)  # of test_prompts(): plain colours, stripes, scenes, a place
SHOWN_CONTROLS = (0, 1)
STEPS, CFG = 20, 4.0


@dataclass(frozen=True)
class _Pictures:
    """What one epoch makes of the prompts: `answers` to every test prompt for each seed, and the control prompts."""

    answers: list[Image.Image]
    controls: list[Image.Image]


def run_demo(output: Path) -> None:
    """Train on the embedded model and write the epochs, xyz.png, curves.png and report.json into `output`.

    About two minutes on two CPU cores. A demo that was interrupted goes on; a finished one is only judged anew."""
    started = time.monotonic()
    _quiet_libraries()
    host = load_host(WORLD, "cpu")
    write_dataset(output / "dataset")
    config = demo_config(output)
    finished = list(shown(train(config, host)))[-1]
    assert isinstance(finished, Finished)
    trained_in = time.monotonic() - started

    epochs = {0: {}} | {number: load_lora(path)[0] for number, path in finished.epochs}
    pictures, scores = _judged(host, config, epochs)
    ranking = rank_epochs(scores[1:])
    _draw_grid(pictures, ranking).save(output / "xyz.png")
    curves(read_measurements(finished.folder / "events.jsonl")).save(output / "curves.png")
    report = _report(config, finished, scores, ranking, trained_in, time.monotonic() - started)
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(_summary(output, finished, ranking))


def demo_config(output: Path) -> TrainConfig:
    """The demo's settings: what a person who chooses nothing gets, at the tiny world's size."""
    return from_json(
        TrainConfig,
        {
            "output_name": TRIGGER,
            "output_dir": str(output / "loras"),
            "max_train_epochs": 6,
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
                "optimizer_args": "betas=0.9,0.99 use_bias_correction=True safeguard_warmup=True",
                "lr_scheduler": "constant",
            },
        },
    )


def _judged(
    host: DiffusersHost, config: TrainConfig, epochs: Mapping[int, Mapping[str, Tensor]]
) -> tuple[dict[int, _Pictures], list[EpochScores]]:
    """Every epoch's pictures and scores, the model without a LoRA first, as epoch 0."""
    from tqdm import tqdm

    prompts = [prompt for _ in SEEDS for prompt in test_prompts()]
    pictures: dict[int, _Pictures] = {}
    scores: list[EpochScores] = []
    with host.borrowed([], "auto", False):
        for number, tensors in tqdm(epochs.items(), desc="sampling", unit="epoch"):
            with _applied(host, config, tensors):
                pictures[number] = _sampled(host)
                loss = _held_out_loss(host)
            scores.append(
                score_epoch(
                    number,
                    pictures[number].answers,
                    prompts,
                    pictures[number].controls,
                    pictures[0].controls,
                    loss,
                    training_portraits(),
                )
            )
    return pictures, scores


@contextmanager
def _applied(host: DiffusersHost, config: TrainConfig, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The host's model with a LoRA file's adapters on it; none for no tensors."""
    if not tensors:
        yield
        return
    network = build_network(config.network, host.components(), host.family, config.seed, host.device)
    network.load_state_dict(tensors)
    with network.attached(), network.without_randomness():
        yield


def _sampled(host: DiffusersHost) -> _Pictures:
    def sample(prompts: list[str], seed: int) -> list[Image.Image]:
        numbered = enumerate(prompts)
        return host.sample_batch([SampleRequest(p, "", SIZE, SIZE, STEPS, CFG, 1000 * seed + n) for n, p in numbered])

    texts = [prompt.text for prompt in test_prompts()]
    return _Pictures([p for seed in SEEDS for p in sample(texts, seed)], sample(list(CONTROL_PROMPTS), 7))


def _held_out_loss(host: DiffusersHost) -> float:
    portraits = held_out_portraits()
    pixels = torch.stack([_pixels(portrait.picture) for portrait in portraits])

    def predict(x_t: Tensor, t: Tensor, captions: Sequence[str]) -> Tensor:
        return host.predict(x_t, t, host.encode_texts(captions, TextOptions()))

    captions = [portrait.caption for portrait in portraits]
    return held_out_loss(predict, host.encode_images(pixels), captions, host.process.alphas_cumprod)


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def _draw_grid(pictures: Mapping[int, _Pictures], ranking: list[RankedEpoch]) -> Image.Image:
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


def _quiet_libraries() -> None:
    """The demo's own lines are enough for a newcomer."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
