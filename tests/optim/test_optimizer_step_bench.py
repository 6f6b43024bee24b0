import json

import pytest

from trainer_core.bench.optimizer_step import measure_optimizer_steps, sd15_lora_shapes, tiny_shapes


def test_the_shapes_are_those_of_sd15():
    shapes = sd15_lora_shapes(rank=32)
    assert len(shapes) == 528
    assert sum(a * b for a, b in shapes) == 18_874_368


def test_rows_compare_ours_with_the_packages():
    pytest.importorskip("prodigyopt")
    pytest.importorskip("dadaptation")
    rows = measure_optimizer_steps(tiny_shapes(40), rounds=3, device="cpu")
    assert json.loads(json.dumps(rows)) == rows
    assert {row["optimizer"] for row in rows} == {"AdamW", "Prodigy", "DAdaptAdam"}
    for ours, package in zip(rows[::2], rows[1::2], strict=True):
        assert ours["implementation"] == "ours" != package["implementation"]
        assert ours["syncs"] == 0
        assert package["syncs"] == (0 if ours["optimizer"] == "AdamW" else 80)
        assert ours["kernels"] < min(60, package["kernels"])
        assert ours["time_ratio"] == ours["milliseconds"] / package["milliseconds"]
