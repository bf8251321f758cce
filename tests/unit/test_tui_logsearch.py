"""Looking for texts and lines in a file that is read a piece at a time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tui.logsearch
from retz.client.types import FileRange
from tui.logsearch import Read, Search, line_start
from tui.widgets.logview import wrong_jump

DATA = st.lists(st.sampled_from([b"ab", b"a", b"b", b"\n", b"AB"]), max_size=60).map(b"".join)


def reader(data: bytes) -> Read:
    """A file in memory."""

    async def read(offset: int, length: int | None) -> FileRange:
        part = data[offset:] if length is None else data[offset : offset + length]
        return FileRange(data=part, offset=offset, size=len(data), attempt=1)

    return read


@given(DATA, st.sampled_from(["a", "ab", "aba", "abb\n", "AB", "bA"]), st.integers(0, 60))
def test_both_ways_find_what_a_whole_file_would_give(data: bytes, needle: str, start: int) -> None:
    search, heap = Search(needle), data if needle != needle.lower() else data.lower()
    wanted = needle.encode()
    at = heap.find(wanted, min(start, len(data)))
    before = [place for place in range(start) if heap.startswith(wanted, place)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tui.logsearch, "STEP", 4)
        forward = asyncio.run(search.forward(reader(data), start, lambda _: None))
        backward = asyncio.run(search.backward(reader(data), start, lambda _: None))
    assert forward == (at if at >= 0 else None)
    assert backward == (before[-1] if before else None)


def test_it_tells_how_far_it_is() -> None:
    told: list[int] = []
    data = b"x" * (3 * tui.logsearch.STEP)
    assert asyncio.run(Search("needle").forward(reader(data), 0, told.append)) is None
    assert told == [tui.logsearch.STEP, 2 * tui.logsearch.STEP, 3 * tui.logsearch.STEP]
    told.clear()
    assert asyncio.run(Search("needle").backward(reader(data), len(data), told.append)) is None
    assert told == [2 * tui.logsearch.STEP, tui.logsearch.STEP, 0]


def test_places_in_a_line() -> None:
    assert Search("err").places("Err: err ERROR") == [(0, 3), (5, 8), (9, 12)]
    assert Search("Err").places("Err: err") == [(0, 3)]
    assert Search("aa").places("aaaa") == [(0, 2), (2, 4)]


@pytest.mark.parametrize(("number", "start"), [(1, 0), (2, 2), (3, 5), (4, 6), (5, None)])
def test_where_a_line_begins(number: int, start: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tui.logsearch, "STEP", 3)
    assert asyncio.run(line_start(reader(b"a\nbc\n\nd"), number, lambda _: None)) == start


@pytest.mark.parametrize("where", ["50%", "0%", "12.5%", "100%", "1", "1200", "@0", "@65536"])
def test_places_one_can_jump_to(where: str) -> None:
    assert wrong_jump(where) == ""


@pytest.mark.parametrize("where", ["", "0", "-1", "x", "nan%", "%", "@", "1.5", "-3%", "²"])
def test_places_one_cannot_jump_to(where: str) -> None:
    assert "line" in wrong_jump(where)
