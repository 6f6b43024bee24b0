"""The command line's tagging and editing: nothing is written but on request, and it can be taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer_core.cli import main


def texts(root: Path) -> list[str]:
    return [path.read_text() for path in sorted(root.glob("*.txt"))]


@pytest.fixture
def root(dataset) -> Path:
    return dataset(["1girl, blue eyes, hat", "1girl, blue eyes, smile", "1girl, tree"]).examples[0].path.parent


def test_edits_are_shown_written_and_undone(root, capsys):
    before = texts(root)
    edits = ["--edit", "drop_traits", "1girl", "60", "--edit", "rename", "hat, tree", "red hat, oak"]
    assert main(["captions", str(root), *edits]) == 0
    said = capsys.readouterr().out
    assert "cats/00.png: 1girl, red hat\n" in said and "3 of 3 captions change" in said
    assert texts(root) == before
    assert main(["captions", str(root), *edits, "--trigger_word", "sks", "--write"]) == 0
    assert texts(root) == ["sks, 1girl, red hat", "sks, 1girl, smile", "sks, 1girl, oak"]
    capsys.readouterr()
    main(["captions", str(root), "--history"])
    assert "drop_traits 1girl 60; rename hat, tree red hat, oak; trigger sks (3 files)" in capsys.readouterr().out
    assert main(["captions", str(root), "--undo"]) == 0
    assert texts(root) == before
    assert main(["captions", str(root), "--undo"]) == 0
    assert "nothing to undo" in capsys.readouterr().out


def test_looking_leaves_no_trace(root):
    main(["captions", str(root), "--edit", "sort"])
    main(["captions", str(root), "--history"])
    assert not (root / ".lazylora").exists()


@pytest.mark.parametrize(
    ("edit", "said"),
    [(["remov", "x"], "remove"), (["remove", "a", "b", "c"], "quotes"), (["drop_traits", "", "101"], "0 to 100")],
)
def test_a_wrong_edit_is_named(root, capsys, edit, said):
    assert main(["captions", str(root), "--edit", *edit]) == 1
    assert said in capsys.readouterr().err


def test_a_tagger_tags_and_its_tags_can_be_taken_back(root, wd_tagger, capsys):
    before = texts(root)
    weights = np.zeros((3, 6))
    weights[:, [3, 5]] = 1  # long_hair and the character, on everything that is not black
    tagger = str(wd_tagger(weights))
    assert main(["tag", str(root), "--tagger", tagger, "--mode", "append"]) == 0
    assert texts(root) == before
    assert main(["tag", str(root), "--tagger", tagger, "--mode", "append", "--write"]) == 0
    assert texts(root)[2] == "1girl, tree, long hair, shiroko (blue archive)"
    main(["captions", str(root), "--drop_category", "character", "--tagger", tagger, "--write"])
    assert texts(root)[2] == "1girl, tree, long hair"
    for _ in range(2):
        main(["captions", str(root), "--undo"])
    assert texts(root) == before


def test_without_a_tagger_it_says_what_to_do(root, capsys):
    assert main(["tag", str(root)]) == 1
    assert "put model.onnx and selected_tags.csv" in capsys.readouterr().err


def test_an_unknown_category_is_named(root, wd_tagger, capsys):
    tagger = str(wd_tagger(np.zeros((3, 6))))
    assert main(["captions", str(root), "--drop_category", "characters", "--tagger", tagger]) == 1
    assert 'did you mean "character"?' in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--edit", "remove", "hat", "--write"], ["--undo"]])
def test_a_file_that_describes_a_dataset_is_not_written_into(root, tmp_path, capsys, words):
    described = tmp_path / "set.toml"
    described.write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\ncaption_extension = ".txt"\n')
    before = texts(root)
    assert main(["captions", str(described), *words]) == 1
    said = capsys.readouterr().err
    assert "set.toml is a file that describes a dataset" in said and "name a folder of its pictures" in said
    assert texts(root) == before and not (tmp_path / ".lazylora").exists()
