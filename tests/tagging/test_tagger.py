"""The tagger: the real onnxruntime on small models, and the preprocess by numbers."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer_core.errors import DataError
from trainer_core.tagging.autotag import autotag
from trainer_core.tagging.config import TaggerConfig
from trainer_core.tagging.model_files import find_model, offered_models
from trainer_core.tagging.preprocess import centred_on_zero, tagger_input
from trainer_core.tagging.tagger import Tagger

BLUE, GREEN, RED = 10, 100, 200
PLAIN = Image.new("RGB", (16, 16), (RED, GREEN, BLUE))
# each output sees one channel: blue, green, red, then nothing
CHANNELS = np.hstack([np.eye(3), np.zeros((3, 3))]) / 255


def loaded(folder: Path) -> Tagger:
    return Tagger(find_model(str(folder), folder.parent))


def test_the_input_is_blue_first_and_not_scaled():
    pixels = tagger_input(PLAIN, 8)
    assert pixels.shape == (8, 8, 3) and pixels.dtype == np.float32
    assert (pixels == [BLUE, GREEN, RED]).all()


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [((8, 4), (2, 6), (0, 8)), ((4, 8), (0, 8), (2, 6)), ((8, 5), (1, 6), (0, 8))],  # the odd row goes below, as kohya
)
def test_the_square_is_filled_with_white_around_the_picture(size, rows, columns):
    pixels = tagger_input(Image.new("RGB", size, "black"), 8)
    inside = np.zeros((8, 8), bool)
    inside[slice(*rows), slice(*columns)] = True
    assert (pixels[inside] == 0).all() and (pixels[~inside] == 255).all()


def test_shrinking_averages_areas():
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, 1::2] = 101
    assert (
        np.abs(tagger_input(Image.fromarray(stripes), 8) - 50.5).max() <= 0.5
    )  # a nearest or bilinear pick is 0 or 101


def test_growing_is_lanczos():
    edge = Image.fromarray(np.repeat(np.array([[0] * 4 + [255] * 4], np.uint8), 8, 0)).convert("RGB")
    expected = np.asarray(edge.resize((32, 32), Image.Resampling.LANCZOS), np.float32)
    assert np.abs(tagger_input(edge, 32) - expected).max() <= 1


def test_cl_tagger_s_input_is_centred_on_zero():
    batch = centred_on_zero(tagger_input(PLAIN, 8)[None])
    assert batch.shape == (1, 3, 8, 8) and batch.dtype == np.float32
    assert batch[0, :, 0, 0] == pytest.approx([BLUE / 127.5 - 1, GREEN / 127.5 - 1, RED / 127.5 - 1], abs=1e-6)


def test_wd_gives_the_model_s_own_probabilities(wd_tagger):
    found = loaded(wd_tagger(CHANNELS)).probabilities([PLAIN, Image.new("RGB", (5, 9), "white")])
    assert found[0] == pytest.approx([BLUE / 255, GREEN / 255, RED / 255, 0, 0, 0], abs=1e-5)
    assert found[1] == pytest.approx([1, 1, 1, 0, 0, 0], abs=1e-5)


def test_cl_tagger_s_logits_become_probabilities(cl_tagger):
    mapping = {"0": {"tag": "a", "category": "General"}, "2": {"tag": "b", "category": "Quality"}}
    found = loaded(cl_tagger(np.eye(3), mapping)).probabilities([PLAIN])
    logits = np.array([BLUE, GREEN, RED]) / 127.5 - 1
    assert found[0] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)


def test_a_fixed_batch_is_filled_up_and_the_filling_left_out(wd_tagger):
    tagger = loaded(wd_tagger(CHANNELS, batch=2))
    found = tagger.probabilities([PLAIN, PLAIN, Image.new("RGB", (8, 8), "black")])
    assert found.shape == (3, 6)
    assert found[2] == pytest.approx(0) and found[0][2] == pytest.approx(RED / 255, abs=1e-5)


def test_an_open_size_is_448(wd_tagger):
    tagger = loaded(wd_tagger(CHANNELS, side="side"))
    assert tagger.probabilities([PLAIN])[0][2] == pytest.approx(RED / 255, abs=1e-4)


def test_a_list_of_another_model_is_refused(wd_tagger):
    with pytest.raises(DataError, match="lists 6 tags, but the model gives 3"):
        loaded(wd_tagger(np.eye(3)))


def test_a_file_that_is_no_model_is_named(wd_tagger):
    folder = wd_tagger(CHANNELS)
    (folder / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match=r"model\.onnx cannot be loaded"):
        loaded(folder)


def test_a_missing_onnxruntime_is_named(wd_tagger, monkeypatch):
    folder = wd_tagger(CHANNELS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DataError, match="pip install onnxruntime"):
        loaded(folder)


# -- finding the files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "put model.onnx and selected_tags.csv"),
        ("no such folder", "there is no tagger's folder"),
        ("../up", "there is no tagger's folder"),
        (
            "SmilingWolf/wd-v3",
            r"put its selected_tags.csv and model.onnx into .*SmilingWolf_wd-v3, or turn download on",
        ),
        ("cella110n/cl_tagger/cl_1", r"put its tag_mapping.json and model_optimized.onnx into .*cella110n_cl_tagger"),
    ],
)
def test_without_a_model_it_says_what_to_put_where(tmp_path, name, said):
    with pytest.raises(DataError, match=said):
        find_model(name, tmp_path)


def test_a_folder_without_its_model_or_list_is_named(wd_tagger):
    folder = wd_tagger(CHANNELS)
    (folder / "model.onnx").unlink()
    with pytest.raises(DataError, match=r"selected_tags\.csv but no model\.onnx"):
        find_model(str(folder), folder)
    (folder / "selected_tags.csv").unlink()
    with pytest.raises(DataError, match="neither"):
        find_model(str(folder), folder)


def test_taggers_in_the_models_folder_are_offered_and_found_by_name(wd_tagger, tmp_path):
    folder = wd_tagger(CHANNELS, name="SmilingWolf_wd-v3")
    (folder / "model.onnx").rename(folder / "renamed.onnx")
    assert list(offered_models(tmp_path / "taggers")) == ["SmilingWolf_wd-v3"]
    for name in ("SmilingWolf_wd-v3", "SmilingWolf/wd-v3"):
        assert find_model(name, tmp_path / "taggers").model == folder / "renamed.onnx"


def test_a_repository_is_fetched_only_when_asked(wd_tagger, tmp_path, monkeypatch):
    source, fetched = wd_tagger(CHANNELS), []

    def hf_hub_download(repository, file, subfolder=None, local_dir=None):
        fetched.append((repository, file, subfolder))
        Path(local_dir).mkdir(parents=True, exist_ok=True)
        shutil.copy(source / file, local_dir)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
    models = tmp_path / "models"
    with pytest.raises(DataError, match="turn download on"):
        find_model("SmilingWolf/wd-v3", models)
    assert fetched == []
    assert find_model("SmilingWolf/wd-v3", models, download=True).model == models / "SmilingWolf_wd-v3" / "model.onnx"
    find_model("SmilingWolf/wd-v3", models, download=True)
    assert fetched == [("SmilingWolf/wd-v3", name, None) for name in ("selected_tags.csv", "model.onnx")]


def test_a_failed_fetch_says_where_to_put_the_files(tmp_path, monkeypatch):
    def hf_hub_download(*_, **__):
        raise OSError("404: not there")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
    with pytest.raises(DataError, match=r"selected_tags.csv of a/b cannot be fetched \(404: not there\).*a_b yourself"):
        find_model("a/b", tmp_path, download=True)


# -- a whole dataset ---------------------------------------------------------------------------------------------


def test_every_picture_is_tagged_in_order_and_files_stay(wd_tagger, dataset):
    found = dataset(["x, long hair", None, "", "y", "z"])
    # "long_hair" is as sure as the picture is red: 40 more on each, of (40 n, 90, 200) on 16 rows of white in 64
    weights = np.zeros((3, 6))
    weights[2, 3] = 1 / 255
    tagger = loaded(wd_tagger(weights))
    tagged = list(autotag(found.examples, tagger, TaggerConfig(general_threshold=0.5, mode="append", batch_size=2)))
    assert [each.example for each in tagged] == list(found.examples)
    expected = [(16 * 255 + 48 * 40 * number) / 64 / 255 >= 0.5 for number in range(5)]
    assert expected == [False, False, False, True, True]
    assert [each.caption for each in tagged] == ["x, long hair", "", "", "y, long hair", "z, long hair"]
    assert (found.examples[3].path.with_suffix(".txt")).read_text() == "y"


def test_pictures_with_captions_are_kept(wd_tagger, dataset):
    found = dataset(["x", None, ""])
    weights = np.zeros((3, 6))
    weights[:, 2] = 1
    tagged = list(autotag(found.examples, loaded(wd_tagger(weights)), TaggerConfig(mode="keep")))
    assert [(each.example.path.name, each.caption) for each in tagged] == [("01.png", "1girl"), ("02.png", "1girl")]


def test_a_picture_that_broke_since_the_scan_is_reported_and_the_others_go_on(wd_tagger, dataset):
    found = dataset([None, None, None])
    found.examples[1].path.write_bytes(b"broken")
    tagged = list(autotag(found.examples, loaded(wd_tagger(np.ones((3, 6)))), TaggerConfig()))
    assert [bool(each.trouble) for each in tagged] == [False, True, False]
    assert "01.png" in tagged[1].trouble and tagged[2].caption
