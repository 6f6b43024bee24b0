"""How much memory many pictures take, measured in a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
PICTURES, SIDE = 300, 512

FILL = """
import resource, sys
from torch.nn.functional import avg_pool2d
from trainer_core.config import DatasetConfig
from trainer_core.data.buckets import assign_buckets
from trainer_core.data.cache import LatentCache
from trainer_core.data.dataset import read_dataset

def mebibytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

before = mebibytes()
config = DatasetConfig(sys.argv[1], resolution=512)
examples = read_dataset(config).examples
placements = assign_buckets([each.size for each in examples], config)
cache = LatentCache(examples, placements, lambda pixels: avg_pool2d(pixels, 8)[:, [0, 1, 2, 0]], "vae", None)
for _ in cache.fill():
    pass
print(mebibytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_latents_of_many_pictures_take_little_more_than_their_bytes(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).resize((SIDE, SIDE)).save(written, "JPEG")
    jpeg = written.getvalue()
    for number in range(PICTURES):
        comment = b"\xff\xfe\x00\x06%04d" % number  # a comment makes each another file, and another key
        (tmp_path / f"{number}.jpg").write_bytes(jpeg[:2] + comment + jpeg[2:])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    latents = PICTURES * 4 * (SIDE // 8) ** 2 * 4 >> 20
    assert int(ended.stdout) < latents + 280, "kept one by one between the decoded pictures, they took 500 MiB more"
