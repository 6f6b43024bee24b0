"""Flat lists of pictures and labels become the table that they stand for."""

from __future__ import annotations

from PIL import Image

from tests.nodes.pack import load

arrange = load("nodes.table").arrange


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (4, 4), (number, 0, 0)) for number in range(count)]


def test_epochs_go_across_and_prompts_down():
    a, b, c, d = pictures(4)
    table = arrange([[a], [b], [c], [d]], ["1", "1", "2", "2"], ["cat", "car", "cat", "car"])
    assert (table.columns, table.rows) == (["1", "2"], ["cat", "car"])
    assert table.cells == [[a, c], [b, d]]


def test_a_batch_stands_below_itself_and_stays_with_its_prompt():
    a, b, c, d, e, f, g, h = pictures(8)
    table = arrange([[a, b], [c, d], [e, f], [g, h]], ["1", "1", "2", "2"], ["cat", "car", "cat", "car"])
    assert table.rows == ["cat", "", "car", ""]
    assert table.cells == [[a, e], [b, f], [c, g], [d, h]]


def test_without_prompts_there_is_one_row():
    a, b = pictures(2)
    table = arrange([[a], [b]], ["1", "2"], [])
    assert table.cells == [[a, b]] and table.rows == [""]


def test_no_picture_hides_another():
    a, b = pictures(2)
    assert arrange([[a], [b]], ["same"], ["x"]).cells == [[a, b]]


def test_cells_that_no_picture_belongs_to_are_empty():
    a, b = pictures(2)
    assert arrange([[a], [b]], ["1", "2"], ["cat", "car"]).cells == [[a, None], [None, b]]
