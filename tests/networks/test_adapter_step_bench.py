"""The bench compares every adapter with LyCORIS's, where that can run, and with our plain LoRA."""

from __future__ import annotations

import json

from trainer_core.bench.adapter_step import ADAPTERS, measure_adapter_steps


def test_rows_compare_ours_with_lycoris() -> None:
    rows = measure_adapter_steps(rounds=1, tokens=8)
    assert json.loads(json.dumps(rows)) == rows
    ours = {row["adapter"]: row for row in rows if row["implementation"] == "ours"}
    assert set(ours) == set(ADAPTERS)
    assert ours["lora"]["ratio_to_lora"] == 1
    assert all("time_ratio" in row for row in ours.values())
    assert {"adapter": "dora", "implementation": "lycoris bypass"}.items() not in [row.items() for row in rows]
