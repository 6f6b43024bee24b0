"""What the tab says of packages that are not there."""

import importlib.util

from trainer_core import webui_extension


def test_the_tab_names_what_is_missing_and_the_cure(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tomlkit" else there(name))
    said = webui_extension.missing_packages()
    assert said.startswith("Not installed: tomlkit (recipes and datasets in TOML). Everything else works;")
    assert "install.py" in said


def test_it_says_nothing_where_all_is_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert webui_extension.missing_packages() == ""


def test_it_knows_what_the_installer_adds():
    import install

    added = {install.project_name(each) for each in install.SMALL_PACKAGES}
    # torch and Gradio bring these two, so there is no UI without them
    assert set(webui_extension._SMALL_PACKAGES) == added - {"filelock", "tqdm"}
