"""Torn is not corrupt: every cut and every flipped bit of a journal gives the valid prefix, or a refusal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from retz.store.database import Change, Database, StoreDamaged
from retz.store.journal import JournalReader, encode_line, parse_line
from tests.doubles.store_jobs import contents, gone, journals, put

BATCHES = (
    [put(1), put(2)],
    [put(3, tags=("a",))],
    [put(1, state="STARTED"), gone(2)],
    [put(4), Change("meta", "k", {"v": 1})],
)

Stored = tuple[Path, bytes, list[int], list[dict[str, dict[object, object]]]]


@pytest.fixture
def store(tmp_path: Path) -> Stored:
    """A data directory, its journal, the offset after each batch, and the contents after each batch."""
    directory = tmp_path / "data"
    ends, states = [], []
    with Database.open(directory) as database:
        path = journals(directory)[0]
        ends.append(path.stat().st_size)
        states.append(contents(database))
        for batch in BATCHES:
            database.apply(batch).wait()
            ends.append(path.stat().st_size)
            states.append(contents(database))
    return directory, path.read_bytes(), ends, states


def test_cut_at_every_byte_opens_with_the_valid_prefix(store: Stored) -> None:
    directory, data, ends, states = store
    path = journals(directory)[0]
    for size in range(ends[0], len(data)):
        path.write_bytes(data[:size])
        whole = max(at for at, end in enumerate(ends) if end <= size)
        with Database.open(directory) as database:
            assert contents(database) == states[whole], size
            assert database.recovery.torn_bytes == size - ends[whole]
            if size > ends[whole]:
                assert (database.recovery.torn_file, database.recovery.torn_offset) == (path.name, ends[whole])
        assert path.stat().st_size == ends[whole]


def test_each_flipped_byte_of_the_last_record_costs_exactly_that_record(store: Stored) -> None:
    directory, data, ends, states = store
    path = journals(directory)[0]
    for at in range(ends[-2], len(data)):
        for bit in (0x01, 0x20, 0xFF):
            path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            with Database.open(directory) as database:
                assert contents(database) == states[-2], (at, bit)


def test_each_flipped_byte_before_valid_records_is_refused_with_file_and_offset(store: Stored) -> None:
    directory, data, ends, _ = store
    path = journals(directory)[0]
    for begin, end in pairwise(ends[:-1]):
        for at in range(begin, end, 7):
            damaged = data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :]
            path.write_bytes(damaged)
            with pytest.raises(StoreDamaged) as caught:
                Database.open(directory)
            assert (caught.value.path, caught.value.offset) == (path, begin)
            assert path.name in str(caught.value) and f"byte {begin}" in str(caught.value)
            assert f"retz-server fsck --data-dir {directory}" in str(caught.value)
            assert path.read_bytes() == damaged


def test_overwritten_newline_does_not_hide_the_record_behind_it(store: Stored) -> None:
    directory, data, ends, _ = store
    at = ends[-2] - 1
    assert data[at : at + 1] == b"\n"
    journals(directory)[0].write_bytes(data[:at] + b"x" + data[at + 1 :])
    with pytest.raises(StoreDamaged) as caught:
        Database.open(directory)
    assert caught.value.offset == ends[-3]


def test_read_only_ignores_a_torn_tail_and_leaves_it(store: Stored) -> None:
    directory, data, _, states = store
    journals(directory)[0].write_bytes(data[:-5])
    database = Database.open(directory, read_only=True)
    assert contents(database) == states[-2]
    assert database.recovery.torn_bytes > 0
    assert journals(directory)[0].read_bytes() == data[:-5]


def test_a_missing_line_is_a_gap(store: Stored) -> None:
    directory, data, ends, _ = store
    journals(directory)[0].write_bytes(data[: ends[1]] + data[ends[2] :])
    with pytest.raises(StoreDamaged, match="change 4 stands where change 3 should"):
        Database.open(directory)


def test_a_damaged_header_is_refused(store: Stored) -> None:
    directory, data, _, _ = store
    journals(directory)[0].write_bytes(b"0" * 8 + data[8:])
    with pytest.raises(StoreDamaged, match="byte 0"):
        Database.open(directory)


def test_a_torn_tail_is_overwritten_by_what_follows(store: Stored) -> None:
    directory, data, ends, _ = store
    journals(directory)[0].write_bytes(data[: ends[-2] + 10])
    with Database.open(directory) as database:
        database.apply([put(9)]).wait()
        expected = contents(database)
    with Database.open(directory) as database:
        assert contents(database) == expected
        assert database.recovery.torn_bytes == 0


def test_line_knows_its_numbers_and_refuses_any_change() -> None:
    line = encode_line(17, [("jobs", 1, {"a": 1}), ("jobs", 2, None)])
    parsed = parse_line(line, 100)
    assert parsed is not None
    assert (parsed.first, parsed.last, parsed.changes) == (17, 18, 2)
    assert parsed.body_offset == 100 + line.index(b"[[")
    assert parse_line(line[:-1]) is None
    assert parse_line(line.replace(b" 17 ", b" 18 ")) is None
    assert parse_line(line[:8].upper() + line[8:]) is None or line[:8].isdigit()


def test_reader_refuses_a_torn_sealed_journal(store: Stored, tmp_path: Path) -> None:
    _, data, ends, _ = store
    path = tmp_path / "x.log"
    path.write_bytes(data[:-1])
    with path.open("rb") as stream, pytest.raises(StoreDamaged) as caught:
        list(JournalReader(stream, path, sealed=True))
    assert caught.value.offset == ends[-2]
