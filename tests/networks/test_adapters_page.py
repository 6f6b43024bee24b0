"""docs/adapters.md lists every algorithm, and its sizes are those of files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.networks.test_kohya_keys import sd15_unet, text_encoder
from trainer_core.config import NetworkConfig
from trainer_core.families import SD1
from trainer_core.networks import ALGORITHMS, build_network

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
ROWS = {row[0]: row[1] for row in re.findall(r"^\| `([\w-]+)` \|[^|]*\| ([\d.]+ [MG]B) \|", PAGE, re.MULTILINE)}


def test_every_algorithm_is_listed() -> None:
    assert set(ROWS) == set(ALGORITHMS.names())


@pytest.mark.parametrize("algo", [name for name in ALGORITHMS.names() if name != "full"])  # which takes its time
def test_sizes_are_those_of_files(algo: str) -> None:
    config = NetworkConfig(algo=algo, train_text_encoder=algo != "norm")
    network = build_network(config, {"unet": sd15_unet(), "te1": text_encoder(12, 768, 12)}, SD1, 0, "meta")
    said = float(ROWS[algo].removesuffix(" MB"))
    assert network.file_size(torch.float16) / 1e6 == pytest.approx(said, rel=0.04)
