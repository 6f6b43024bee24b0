"""The dataset room from the command line: a report, captions edited and a run, on photos and on a messy folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.data.messy import SOUND, make_messy
from trainer_core.cli import main

PHOTOS = Path(os.environ.get("LAZYLORA_PHOTOS") or Path(__file__).resolve().parents[3] / "shared" / "data")


@pytest.fixture(params=["photos", "messy"])
def room(request, tmp_path) -> Path:
    """A dataset's folder that the test may write into."""
    folder = tmp_path / "room"
    if request.param == "messy":
        if sys.platform == "win32":
            pytest.skip("such names and links need a POSIX file system")
        return make_messy(folder)
    if not (PHOTOS / "cat").is_dir():
        pytest.skip("no photos: set LAZYLORA_PHOTOS to a folder with cat/, dog/ … of DreamBooth photos")
    for concept in ("cat", "dog"):
        (folder / f"2_{concept}").mkdir(parents=True)
        for photo in sorted((PHOTOS / concept).glob("*.jpg"))[:2]:
            shutil.copy(photo, folder / f"2_{concept}")
    return folder


def test_a_report_edited_captions_and_a_run(room, tmp_path, make_pipeline, capsys):
    is_messy = (room / "4_cat").is_dir()
    report, picture = tmp_path / "report.json", tmp_path / "report.png"
    looked = ["report", str(room), "--resolution", "64", "--bucket_reso_steps", "16"]
    assert main([*looked, "--json", str(report), "--picture", str(picture)]) == 0
    found = json.loads(report.read_text())
    assert {each["folder"] for each in found["concepts"]} == ({"4_cat", "1_dog"} if is_messy else {"2_cat", "2_dog"})
    assert Image.open(picture).width > 500
    if is_messy:
        assert found["pictures"] == len(SOUND) + 1 + 2, "a copy of one, and two dogs"
        assert any("4_cat/a.png" in each["pictures"] and len(each["pictures"]) == 2 for each in found["look_alikes"])
        assert [each["picture"] for each in found["blurred"]] == ["4_cat/i.png"]
        assert "4_cat/h.png" in {each["picture"] for each in found["cropped"]}
        assert "1_dog/e.png" in found["without_caption"] and found["unbalanced"]

    before = {path: path.read_bytes() for path in sorted(room.glob("*/*.txt")) if path.is_file()}
    edits = ["--edit", "rename", "hat", "red hat", "--edit", "append", "photo", "--trigger_word", "zwx"]
    assert main(["captions", str(room), *edits, "--write"]) == 0
    written = next(room.glob("*_cat")) / ("a.txt" if is_messy else f"{min(PHOTOS.glob('cat/*.jpg')).stem}.txt")
    assert written.read_text().startswith("zwx, ") and written.read_text().endswith(", photo")

    make_pipeline().save_pretrained(tmp_path / "model")
    run = ["train", "--model", str(tmp_path / "model"), "--device", "cpu", "--folder", str(room), "--rank", "2"]
    sizes = ["--resolution", "64", "--bucket_reso_steps", "16", "--batch_size", "8", "--max_train_epochs", "1"]
    assert main([*run, *sizes, "--output_name", "room", "--output_dir", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "room" / "room-000001.safetensors").is_file()

    assert main(["captions", str(room), "--undo"]) == 0
    now = {path: path.read_bytes() for path in sorted(room.glob("*/*.txt")) if path.is_file()}
    assert now == before
