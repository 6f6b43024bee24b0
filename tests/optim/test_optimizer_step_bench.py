import json

import pytest

from trainer_core.bench.optimizer_step import (
    PACKAGES,
    measure_optimizer_steps,
    sd15_lokr_shapes,
    sd15_lora_shapes,
    tiny_shapes,
)


def test_the_shapes_are_those_of_sd15():
    shapes = sd15_lora_shapes(rank=32)
    assert len(shapes) == 528
    assert sum(a * b for a, b in shapes) == 18_874_368
    assert len(sd15_lokr_shapes()) == 792


def test_rows_compare_ours_with_the_packages():
    pytest.importorskip("prodigyopt")
    pytest.importorskip("dadaptation")
    pytest.importorskip("lion_pytorch")
    rows = measure_optimizer_steps(tiny_shapes(40), rounds=3, device="cpu")
    assert json.loads(json.dumps(rows)) == rows
    assert {row["optimizer"] for row in rows} == set(PACKAGES)
    for ours, package in zip(rows[::2], rows[1::2], strict=True):
        assert ours["implementation"] == "ours" != package["implementation"]
        assert ours["syncs"] == 0
        assert package["syncs"] == 0 if ours["optimizer"] in ("AdamW", "Lion") else package["syncs"] >= 40
        assert ours["kernels"] < min(60, package["kernels"])
        assert ours["time_ratio"] == ours["milliseconds"] / package["milliseconds"]
