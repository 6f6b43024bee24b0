"""A LoRA on disk: safetensors with kohya's keys and metadata. Pickles are never read, as they can run code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import RunError
from .atomic import write_atomically

MAX_HEADER_BYTES = 16 * 1024 * 1024  # a LoRA's header takes well under 2 MiB


def save_lora(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write an epoch's file, whole or not at all, with its hashes added to the metadata; never over another file.

    tensors: contiguous, on the CPU. Raises RunError when the file exists, the disk is full or the folder read-only."""
    tensors = dict(tensors)
    content = save(tensors, {**metadata, **file_hashes(tensors, metadata)})
    write_atomically(path, lambda file: file.write_bytes(content), unique=True, needed_bytes=len(content))


def load_lora(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors on the CPU, metadata) of a LoRA file. Raises RunError for anything but a sound safetensors file."""
    path = Path(path)
    read_metadata(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: the file is damaged ({error}); train or download it again") from None


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a LoRA file, from its header alone. Raises RunError for anything but a safetensors file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
                raise RunError(f"{path}: this is a pickle (.pt, .ckpt), which can run code; convert it to .safetensors")
            if len(start) < 8 or not 2 <= length <= MAX_HEADER_BYTES:
                raise RunError(f"{path}: this is no LoRA in safetensors format; choose a .safetensors file")
            header = json.loads(file.read(length))
    except OSError as error:
        raise RunError(f"{path}: the file cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError):
        raise RunError(f"{path}: the file's header is damaged; train or download it again") from None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def file_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """kohya's hashes of the tensors, by which the UIs know a LoRA again whatever its metadata is edited to.

    sshs_model_hash: SHA-256 of all after the header. sshs_legacy_hash: 8 digits of that of 64 KiB at 1 MiB, with the
    header as training wrote it. modelspec.hash_sha256: the first again, as ModelSpec writes it."""
    content = save(dict(tensors), {key: value for key, value in metadata.items() if key.startswith("ss_")})
    body = memoryview(content)[8 + int.from_bytes(content[:8], "little") :]
    whole = hashlib.sha256(body).hexdigest()
    legacy = hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    return {"sshs_model_hash": whole, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{whole}"}
