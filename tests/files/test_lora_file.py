"""Epoch files: what is saved is what is loaded; nothing but sound safetensors is read."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from trainer_core.errors import RunError
from trainer_core.files.lora_file import file_hashes, load_lora, read_metadata, save_lora

TENSORS = {
    "lora_unet_a.lora_down.weight": torch.randn(4, 8, dtype=torch.float16),
    "lora_unet_a.lora_up.weight": torch.randn(8, 4, dtype=torch.bfloat16),
    "lora_unet_a.alpha": torch.tensor(4.0),
}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "猫 cat-000001.safetensors"
    save_lora(path, TENSORS, {"ss_output_name": "猫 cat-000001", "note": "ü"})
    tensors, metadata = load_lora(path)
    assert tensors.keys() == TENSORS.keys() == load_file(path).keys()
    assert all(torch.equal(tensors[key], TENSORS[key]) and tensors[key].dtype == TENSORS[key].dtype for key in tensors)
    assert metadata["ss_output_name"] == "猫 cat-000001" and metadata["note"] == "ü"
    assert metadata == read_metadata(path)


def test_an_epoch_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_lora(path, TENSORS, {})
    before = path.read_bytes()
    with pytest.raises(RunError, match="never overwritten"):
        save_lora(path, {"other": torch.zeros(1)}, {})
    assert path.read_bytes() == before


def test_hashes_are_kohyas(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    large = {**TENSORS, "lora_unet_b.lora_up.weight": torch.randn(700, 500)}
    training, edited = {"ss_seed": "1"}, {"modelspec.title": "a"}
    save_lora(path, large, {**training, **edited})
    content, metadata = path.read_bytes(), read_metadata(path)
    body = content[8 + struct.unpack("<Q", content[:8])[0] :]
    assert metadata["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    as_trained = save(large, training)
    assert metadata["sshs_legacy_hash"] == hashlib.sha256(as_trained[0x100000:0x110000]).hexdigest()[:8]
    assert file_hashes(large, {**training, "modelspec.title": "b"}) == file_hashes(large, {**training, **edited})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": 1}), "pickle"),
        (b"PK\x03\x04" + b"\x00" * 60, "pickle"),
        (b"", "no LoRA in safetensors format"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 60, "no LoRA in safetensors format"),
        (struct.pack("<Q", 2**40) + b"{}", "no LoRA in safetensors format"),
        (struct.pack("<Q", 10) + b"{not json}", "header is damaged"),
        (save({"a": torch.zeros(100)})[:-50], "file is damaged"),
        (struct.pack("<Q", 4) + b"[12]", "file is damaged"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"odd\.safetensors: .*{message}"):
        load_lora(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"gone\.safetensors: the file cannot be read"):
        load_lora(tmp_path / "gone.safetensors")
