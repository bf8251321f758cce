"""The launcher's file of records: what is read back is what was written, up to any damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retz.engine.local import records

HEADER = records.encode(["h", "boot", None])


def write(path: Path) -> None:
    writer = records.Writer(str(path), HEADER, [])
    for line in (['["s","1.1",11,5,6]', '["s","2.1",12,5,6]'], ['["e",7,"ended","1.1"]'], ['["s","3.1",13,8,9]']):
        for record in line:
            writer.add(record)
        writer.flush()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "r")
    history = records.read(str(tmp_path / "r"))
    assert (history.boot_id, history.cgroup, history.damaged, history.last_seq) == ("boot", None, 0, 7)
    assert set(history.started) == {"2.1", "3.1"}
    assert history.ended == {7: ["e", 7, "ended", "1.1"]}


def test_acknowledged_ends_are_gone(tmp_path: Path) -> None:
    write(tmp_path / "r")
    history = records.read(str(tmp_path / "r"))
    history.apply(["a", [7, 8]])
    assert (len(history.ended), history.last_seq) == (0, 7)


def test_a_tail_torn_at_any_byte_leaves_the_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write(path)
    whole = path.read_bytes()
    before_last = whole[:-1].rindex(b"\n") + 1
    for length in range(before_last, len(whole) - 1):
        path.write_bytes(whole[:length])
        history = records.read(str(path))
        assert set(history.started) == {"2.1"}
        assert history.damaged == (length > before_last)
    path.write_bytes(whole[:-1])  # only the end of the line is missing: the record is whole
    assert set(records.read(str(path)).started) == {"2.1", "3.1"}


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write(path)
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for position in range(last, len(whole) - 1):
        if position == last + 8:
            continue  # the space between sum and record says nothing
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(bytes(damaged))
        history = records.read(str(path))
        assert "3.1" not in history.started, position
        assert history.damaged >= 1


def test_a_missing_file_is_an_empty_history(tmp_path: Path) -> None:
    history = records.read(str(tmp_path / "none"))
    assert (history.started, history.ended, history.boot_id) == ({}, {}, "")


def test_a_rewrite_keeps_only_what_lives(tmp_path: Path) -> None:
    path = tmp_path / "r"
    writer = records.Writer(str(path), HEADER, [])
    while not writer.too_long:
        writer.add('["s","1.1",11,5,6]')
        writer.flush()
    writer.add('["s","9.1",1,1,1]')
    writer.rewrite(['["s","2.1",12,5,6]'])
    assert writer.empty
    writer.add('["s","3.1",13,5,6]')
    writer.flush()
    assert set(records.read(str(path)).started) == {"2.1", "3.1"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_loses_nothing_that_was_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r"
    writer = records.Writer(str(path), HEADER, [])
    writer.add('["s","1.1",11,5,6]')
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[:5]))
        with pytest.raises(OSError, match="short write"):
            writer.flush()
    writer.flush()
    history = records.read(str(path))
    assert set(history.started) == {"1.1"} and history.damaged == 1


def test_a_disk_that_fills_up_costs_no_descriptor_and_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r"
    writer = records.Writer(str(path), HEADER, [])
    before = len(list(Path("/proc/self/fd").iterdir()))
    real = os.write

    def short(fd: int, data: bytes) -> int:
        real(fd, data[:9])
        monkeypatch.setattr(os, "write", full)
        return 9

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", short)
    writer.add('["s","1.1",11,5,6]')
    for _ in range(3):
        with pytest.raises(OSError, match=r"short write|No space"):
            writer.flush()
        with pytest.raises(OSError, match=r"No space"):
            writer.rewrite([])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    monkeypatch.undo()
    writer.flush()
    assert set(records.read(str(path)).started) == {"1.1"}
