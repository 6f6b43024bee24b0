"""`python -m trainer_core download`."""

from __future__ import annotations

from pathlib import Path

from trainer_core.cli import main
from trainer_core.download import gallery
from trainer_core.download.gallery import Downloaded


def test_what_came_is_listed(tmp_path, monkeypatch, capsys):
    asked = []

    def pretended(config, folder, gallery_config):
        asked.append((config.site, config.tags, config.limit, folder, gallery_config))
        yield Downloaded(folder / "danbooru_1.png", "1girl")
        yield Downloaded(None, trouble="2.png is damaged; replace it")

    monkeypatch.setattr(gallery, "download", pretended)
    folder = tmp_path / "set"
    assert main(["download", str(folder), "--tags", "cat 1girl", "--limit", "7"]) == 0
    assert asked == [("danbooru", "cat 1girl", 7, folder, None)]
    said = capsys.readouterr().out
    assert "danbooru_1.png: 1girl" in said and "left out: 2.png is damaged" in said and "1 pictures downloaded" in said


def test_too_many_or_too_fast_is_refused(capsys):
    assert main(["download", "x", "--tags", "cat", "--pause_seconds", "0"]) == 1
    assert "pause_seconds" in capsys.readouterr().err
    assert main(["download", "x", "--tags", "cat", "--limit", "100000"]) == 1
    assert not Path("x").exists()
