"""Grids keep every picture whole and every label readable."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trainer_core.grid import contact_sheet, labelled_grid


def plain(colour: str, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def count(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(sheet) == np.array(colour)).all(-1).sum())


def test_pictures_keep_their_size():
    sheet = labelled_grid([[plain("red"), plain("blue", (64, 32))]], ["one", "two"])
    assert count(sheet, (255, 0, 0)) == 64 * 64
    assert count(sheet, (0, 0, 255)) == 64 * 32


def test_columns_stand_left_to_right_and_rows_top_to_bottom():
    sheet = np.asarray(labelled_grid([[plain("red"), plain("lime")], [plain("blue"), None]], ["a", "b"], ["x", "y"]))

    def centre(colour: tuple[int, int, int]) -> np.ndarray:
        return np.argwhere((sheet == np.array(colour)).all(-1)).mean(0)

    red, lime, blue = centre((255, 0, 0)), centre((0, 255, 0)), centre((0, 0, 255))
    assert lime[1] > red[1] + 60 and abs(lime[0] - red[0]) < 1
    assert blue[0] > red[0] + 60 and abs(blue[1] - red[1]) < 1


@pytest.mark.parametrize("side", [16, 64, 512, 1024])
def test_labels_are_written_at_any_size(side: int):
    blank = labelled_grid([[plain("white", (side, side))]], [""])
    sheet = labelled_grid([[plain("white", (side, side))]], ["cat-000010"])
    dark = np.asarray(sheet.convert("L")) < 128
    assert dark.any() and not (np.asarray(blank.convert("L")) < 128).any()
    heights = np.flatnonzero(dark.any(1))
    assert heights[-1] - heights[0] >= 8, "letters no smaller than can be read"


def test_a_long_label_is_wrapped_into_its_column():
    long = "a photograph of zwx, wearing a very long coat, in front of a house, late in the evening " * 8
    sheet = labelled_grid([[plain("white", (128, 128))] * 2], [long, "b"], [long])
    single = labelled_grid([[plain("white", (128, 128))] * 2], ["a", "b"], ["x"])
    assert sheet.width == single.width
    assert sheet.height < 4 * single.height


def test_a_word_without_spaces_is_broken_and_other_alphabets_are_taken():
    labelled_grid([[plain("white", (32, 32))]], ["x" * 400, "Пейзаж é"], ["日本"])


def test_without_row_labels_there_is_no_margin():
    cells = [[plain("white", (256, 256))]]
    assert labelled_grid(cells, ["a"]).width < labelled_grid(cells, ["a"], ["row"]).width
    assert labelled_grid(cells, ["a"]).width == labelled_grid(cells, ["a"], [""]).width


def test_an_empty_grid_is_still_a_picture():
    assert min(labelled_grid([], []).size) > 0
    assert min(contact_sheet([], []).size) > 0


def test_a_contact_sheet_fits_pictures_of_any_shape():
    sheet = contact_sheet([plain("red", (300, 100)), plain("blue", (10, 40))], ["wide", "tall"], side=100)
    assert count(sheet, (255, 0, 0)) == pytest.approx(100 * 33, rel=0.05)
    assert count(sheet, (0, 0, 255)) == pytest.approx(100 * 25, rel=0.05)
