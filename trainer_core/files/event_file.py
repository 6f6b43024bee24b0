"""TensorBoard's event files, as far as scalars need them: written here, so that a host installs nothing for it.

A file is a row of records (TFRecord: length, its checksum, data, its checksum), each holding one `Event` message. Both
formats are TensorFlow's (core/lib/io/record_writer.h, core/util/event.proto) and have not changed since 2015."""

from __future__ import annotations

import functools
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_VERSION = b"brain.Event:2"
_CASTAGNOLI = 0x82F63B78
_DOUBLE, _VARINT, _BYTES, _FLOAT = 1, 0, 2, 5  # protobuf's wire types; a double's is 1


class EventFile:
    """One event file in a folder that may hold others: TensorBoard reads them together as one run."""

    def __init__(self, folder: Path, first_step: int):
        """first_step: what earlier files of the folder say of this step and later ones is not shown any more."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time():017.6f}.lazylora"  # TensorBoard reads in name's order
        self._append(_bytes(3, _VERSION))
        self.restart(first_step)

    def restart(self, step: int) -> None:
        """Begin anew at this step: what was written of it and of later ones is not shown any more."""
        session_start = _varint(1, 1)
        self._append(_varint(2, step) + _bytes(7, session_start))

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the values of one step, by tag."""
        values = (_bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in scalars.items())
        self._append(_varint(2, step) + _bytes(5, b"".join(values)))

    def _append(self, event: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(_record(_double(1, time.time()) + event))


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_checksum(length), data, _masked_checksum(data)))


def _masked_checksum(data: bytes) -> bytes:
    checksum = crc32c(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32 with Castagnoli's polynomial (RFC 3720, appendix B.4), which zlib does not offer."""
    table, checksum = _table(), 0xFFFFFFFF
    for byte in data:
        checksum = table[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    return checksum ^ 0xFFFFFFFF


@functools.cache
def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        return value

    return tuple(entry(byte) for byte in range(256))


def _key(field: int, wire_type: int) -> bytes:
    return _unsigned(field << 3 | wire_type)


def _varint(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _unsigned(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + _unsigned(len(value)) + value


def _double(field: int, value: float) -> bytes:
    return _key(field, _DOUBLE) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _key(field, _FLOAT) + struct.pack("<f", value)


def _unsigned(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
