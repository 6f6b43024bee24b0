"""The whole series: every claim's arms for every seed, two at a time, kept as they end so that a stop costs little."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .claims import CLAIMS, Claim, Results
from .page import write_page
from .trial import Trial, load_trial, run_trial, save_trial

SEEDS = (1, 2, 3)
DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def run_experiments(
    work: Path, docs: Path = DOCS, seeds: Sequence[int] = SEEDS, workers: int = 2, claims: Sequence[Claim] = CLAIMS
) -> Path:
    """Run what is not in `work` yet and write docs/experiments.md with its plots; gives the page's path.

    About a minute a trial on one core. Arms that several claims ask for, with equal settings, are trained once."""
    from tqdm import tqdm

    wanted = {
        _key(settings, seed): (settings, seed) for claim in claims for settings in claim.arms.values() for seed in seeds
    }
    missing = {key: what for key, what in wanted.items() if not (work / f"{key}.json").exists()}
    # processes of one thread each: small networks gain nothing from threads
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        running: dict[Future[Trial], str] = {
            pool.submit(run_trial, key, settings, seed): key for key, (settings, seed) in missing.items()
        }
        for done in tqdm(as_completed(running), total=len(running), desc="trials", unit="trial"):
            save_trial(done.result(), work / f"{running[done]}.json")
    results = [(claim, _results(claim, seeds, work)) for claim in claims]
    return write_page(results, docs)


def _results(claim: Claim, seeds: Sequence[int], work: Path) -> Results:
    return {
        arm: [replace(load_trial(work / f"{_key(settings, seed)}.json"), arm=arm) for seed in seeds]
        for arm, settings in claim.arms.items()
    }


def _key(settings: Mapping[str, Any], seed: int) -> str:
    text = json.dumps([settings, seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
