"""ONNX taggers small enough to be written by a test, and really run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

CSV = [("general", 9), ("explicit", 9), ("1girl", 0), ("long_hair", 0), ("^_^", 0), ("shiroko_(blue_archive)", 4)]


def write_wd_tagger(
    folder: Path, weights: np.ndarray, side: int | str = 8, batch: int | str = "N", rows: list = CSV
) -> Path:
    """A tagger in SmilingWolf's layout: outputs are means of the input's channels, blue first, times `weights`.

    weights: [3, outputs]. rows: the tags with their categories."""
    _write_model(folder / "model.onnx", [batch, side, side, 3], weights, axes=[1, 2])
    lines = ["tag_id,name,category,count", *(f"{n},{tag},{category},5" for n, (tag, category) in enumerate(rows))]
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_cl_tagger(folder: Path, weights: np.ndarray, mapping: dict, side: int = 8) -> Path:
    """A tagger in cl_tagger's layout: channels first, logits out."""
    _write_model(folder / "model_optimized.onnx", ["N", 3, side, side], weights, axes=[2, 3])
    (folder / "tag_mapping.json").write_text(json.dumps(mapping), encoding="utf-8")
    return folder


def _write_model(path: Path, shape: list, weights: np.ndarray, axes: list[int]) -> None:
    onnx = pytest.importorskip("onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["found"]),
    ]
    tensors = [
        numpy_helper.from_array(np.array(axes, np.int64), "axes"),
        numpy_helper.from_array(weights.astype(np.float32), "weights"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, [shape[0], weights.shape[1]])
    graph = helper.make_graph(nodes, "tagger", [image], [found], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
