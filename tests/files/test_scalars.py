"""The scalars that TensorBoard shows: readable by its own messages, kohya's tags, right after a resume."""

from __future__ import annotations

import struct
from collections import defaultdict
from pathlib import Path

import pytest

from trainer_core.events import Measured, Measurement, TurnedBack
from trainer_core.files.event_file import EventFile, crc32c
from trainer_core.files.scalars import ScalarLog, kohya_group

BOTH = {"te1": 0.5, "unet": 1.0}


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar by tag, as TensorBoard shows them: a session that starts at a step expires it and later ones."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    shown = defaultdict(list)
    for path in sorted(folder.iterdir()):
        for data in records(path):
            event = event_pb2.Event.FromString(data)
            if event.session_log.status == event_pb2.SessionLog.START:
                for tag, points in shown.items():
                    shown[tag] = [point for point in points if point[0] < event.step]
            for value in event.summary.value:
                shown[value.tag].append((event.step, value.simple_value))
    return dict(shown)


def records(path: Path) -> list[bytes]:
    """The file's records, their checksums compared with tensorboardX's."""
    from tensorboardX.record_writer import masked_crc32c

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == struct.pack("<I", masked_crc32c(data[:8]))
        assert data[12 + length : 16 + length] == struct.pack("<I", masked_crc32c(data[12 : 12 + length]))
        found.append(data[12 : 12 + length])
        data = data[16 + length :]
    return found


def measured(*steps: int, steps_per_epoch: int = 2, d: float | None = 1e-4) -> Measured:
    return Measured(
        tuple(
            Measurement(step, (step - 1) // steps_per_epoch + 1, step / 8, 1.0, {"te1": 5e-5, "unet": 1e-4}, d)
            for step in steps
        )
    )


def test_the_checksum_is_rfc_3720s():
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283


def test_a_file_begins_with_its_version_and_reads_back(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    file = EventFile(tmp_path, 1)
    file.add(300, {"loss/current": 0.25, "lr/unet": -1e-8})
    (path,) = tmp_path.iterdir()
    version, _, event = (event_pb2.Event.FromString(data) for data in records(path))
    assert version.file_version == "brain.Event:2" and "tfevents" in path.name
    assert event.step == 300 and event.wall_time > 1.7e9
    assert {each.tag: each.simple_value for each in event.summary.value} == pytest.approx(
        {"loss/current": 0.25, "lr/unet": -1e-8}
    )


def test_tags_and_averages_are_kohyas(tmp_path):
    log = ScalarLog(tmp_path, 2, lambda step: {"te1": 0.5 / step, "unet": 1.0 / step}, [])
    log.record(measured(1, 2))
    log.record(measured(3))
    shown = read(tmp_path)
    assert shown["loss/current"] == [(1, 0.125), (2, 0.25), (3, 0.375)]
    # LossRecorder: the first epoch's mean so far, then each step of the epoch replaces the one of the epoch before
    assert shown["loss/average"] == [(1, 0.125), (2, 0.1875), (3, 0.3125)]
    assert shown["loss/epoch_average"] == [(1, 0.1875)]
    assert [step for step, _ in shown["lr/unet"]] == [1, 2, 3]
    assert dict(shown["lr/textencoder"]) == pytest.approx({1: 0.5, 2: 0.25, 3: 1 / 6})
    assert dict(shown["lr/d*lr/unet"]) == pytest.approx({1: 1e-4, 2: 1e-4, 3: 1e-4})
    assert dict(shown["lr/d*lr/textencoder"])[1] == pytest.approx(5e-5)


def test_without_d_there_is_no_d_lr(tmp_path):
    log = ScalarLog(tmp_path, 2, lambda step: BOTH, [])
    log.record(measured(1, d=None))
    assert set(read(tmp_path)) == {"loss/current", "loss/average", "lr/unet", "lr/textencoder"}


def test_steps_done_again_are_shown_once(tmp_path):
    ScalarLog(tmp_path, 2, lambda step: BOTH, []).record(measured(1, 2, 3))
    log = ScalarLog(tmp_path, 2, lambda step: BOTH, measured(1, 2).measurements)  # resumed after step 2
    log.record(measured(3, 4))
    log.record(TurnedBack(2, 3))
    log.record(measured(3))
    shown = read(tmp_path)
    assert [step for step, _ in shown["loss/current"]] == [1, 2, 3]
    assert shown["loss/average"][-1] == (3, 0.3125)


@pytest.mark.parametrize(
    ("group", "name"),
    [("unet", "unet"), ("te1", "textencoder"), ("te2", "textencoder"), ("unet x0.5", "unet_x0.5")],
)
def test_groups_have_kohyas_names(group, name):
    assert kohya_group(group) == name
