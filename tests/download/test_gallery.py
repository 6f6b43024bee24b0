"""Downloads from a server on loopback through the real gallery-dl."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from trainer_core.config import DatasetConfig
from trainer_core.data.examples import scan
from trainer_core.download import gallery
from trainer_core.download.config import DownloadConfig
from trainer_core.download.gallery import download
from trainer_core.errors import DataError

needs_gallery_dl = pytest.mark.skipif(importlib.util.find_spec("gallery_dl") is None, reason="pip install gallery-dl")


def fetched(booru, folder: Path, **values) -> list:
    config = DownloadConfig(site=f"{booru.root}/posts?tags=1girl", pause_seconds=0, **values)
    config_file = booru.gallery_config(folder.parent)
    return list(download(config, folder, config_file, is_public_only=False))


def kept(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir() if path.is_file()}


@needs_gallery_dl
def test_pictures_come_with_their_tags_and_can_be_trained(booru, picture, tmp_path):
    for number in range(1, 4):
        booru.post(number, picture(number), tags=f"1girl long_hair u_u tag_{number}x_(some_series)")
    folder = tmp_path / "set"
    found = fetched(booru, folder)
    assert len(found) == 3 and not any(each.trouble for each in found)
    captions = {each.caption for each in scan(DatasetConfig(str(folder))).examples}
    assert captions == {f"1girl, long hair, u_u, tag {number}x (some series)" for number in range(1, 4)}
    assert all(each.path.name.startswith("web_") and each.path.parent == folder for each in found)


@needs_gallery_dl
def test_no_more_than_asked_for_and_nothing_twice(booru, picture, tmp_path):
    for number in range(1, 6):
        booru.post(number, picture(number))
    folder = tmp_path / "set"
    assert len(fetched(booru, folder, limit=2)) == 2
    booru.asked.clear()
    assert fetched(booru, folder, limit=2) == []
    assert not [path for path in booru.asked if path.startswith("/data")]


@needs_gallery_dl
def test_a_caption_that_was_edited_stays(booru, picture, tmp_path):
    booru.post(1, picture(1))
    folder = tmp_path / "set"
    (first,) = fetched(booru, folder)
    first.path.with_suffix(".txt").write_text("edited")
    (folder / ".lazylora" / "download" / "archive.sqlite3").unlink()
    fetched(booru, folder)
    assert first.path.with_suffix(".txt").read_text() == "edited"


@needs_gallery_dl
def test_what_is_no_picture_is_said_and_not_kept(booru, picture, tmp_path):
    booru.post(1, b"<html>not here</html>")
    booru.post(2, picture(2)[:60])
    booru.post(3, picture(3))
    folder = tmp_path / "set"
    found = fetched(booru, folder)
    assert [bool(each.trouble) for each in found].count(True) == 2
    assert len([path for path in folder.iterdir() if path.suffix == ".png"]) == 1


@needs_gallery_dl
def test_names_and_tags_from_the_web_become_no_paths(booru, picture, tmp_path):
    evil = "../../../escaped"
    booru.post(1, picture(1), tags="../../up <script>alert(1)</script>", id=evil, md5=evil, filename=evil)
    booru.post(2, picture(2, format="JPEG"), file_ext="png/../../evil.py", id="a\x00b")
    folder = tmp_path / "deep" / "er" / "set"
    folder.parent.mkdir(parents=True)
    fetched(booru, folder)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
    assert [path.name for path in outside] == ["gallery-dl.json"]
    for path in folder.iterdir():
        assert path.name == ".lazylora" or (path.stem.startswith("web_") and path.suffix in (".png", ".jpg", ".txt"))


@needs_gallery_dl
def test_a_private_address_is_reached_by_no_way(booru, picture, tmp_path, monkeypatch):
    booru.post(1, picture(1))
    config = DownloadConfig(site=f"{booru.root}/posts?tags=1girl", pause_seconds=0)
    with pytest.raises(DataError, match=r"127\.0\.0\.1, which is no public address"):
        list(download(config, tmp_path / "set", booru.gallery_config(tmp_path)))
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(gallery, "check_public", lambda _: None)  # a name that leads elsewhere when it is asked again
    with pytest.raises(DataError, match="ended early"):
        list(download(config, tmp_path / "set", booru.gallery_config(tmp_path)))
    assert booru.asked == []


def test_a_guarded_process_starts_no_program_and_calls_no_neighbour(tmp_path):
    (tmp_path / "gallery_dl").mkdir()
    (tmp_path / "gallery_dl" / "__init__.py").write_text("")
    (tmp_path / "gallery_dl" / "__main__.py").write_text("""
import socket, subprocess, sys, os
for what in (
    lambda: subprocess.run([sys.executable, "-c", ""]),
    lambda: os.system("true"),
    lambda: socket.create_connection(("127.0.0.1", 9), 1),
    lambda: socket.create_connection(("169.254.169.254", 80), 1),
    lambda: socket.create_connection(("::1", 9), 1),
    lambda: socket.create_connection(("localhost", 9), 1),
    lambda: socket.create_connection(("::ffff:127.0.0.1", 9), 1),
    lambda: socket.socket().connect(("localhost", 9)),
):
    try:
        what()
        print("done")
    except PermissionError:
        print("refused")
""")
    program = [sys.executable, str(gallery._GUARDED), "public"]
    said = subprocess.run(program, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert said.stdout.split() == ["refused"] * 8, said.stderr


@needs_gallery_dl
def test_closing_ends_the_download(booru, picture, tmp_path, monkeypatch):
    processes = []
    popen = subprocess.Popen

    def noted(*arguments, **options):
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    for number in range(1, 30):
        booru.post(number, picture(number))
    config = DownloadConfig(site=f"{booru.root}/posts?tags=1girl", pause_seconds=0.3)
    coming = download(config, tmp_path / "set", booru.gallery_config(tmp_path), is_public_only=False)
    next(coming)
    coming.close()
    assert processes[0].poll() is not None
    assert len(list((tmp_path / "set").glob("*.png"))) < 29


@needs_gallery_dl
def test_nothing_found_is_said(booru, tmp_path):
    with pytest.raises(DataError, match=r"no pictures; check the tags|ended early"):
        fetched(booru, tmp_path / "set")


def test_without_gallery_dl_the_pip_line_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="pip install gallery-dl"):
        list(download(DownloadConfig(tags="cat"), tmp_path / "set"))
