"""The viewer's model of a remote file: lines from both directions, safe text, bounded work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import tui.logfile
from tui.logfile import LogWindow, Missing, cells, folded, shown, slice_cells

SMALL = 8
"""Bytes of a block in tests of its borders."""

CONTENTS = st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\xc3\xa4", b"\xe6\x97\xa5", b"\x80", b"\r", b"0123456789"]))


class File:
    """A file that gives blocks when they are missed, and counts them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.window = LogWindow()
        self.fetched: list[int] = []
        self.window.put(len(data), b"", len(data))

    def do(self, move: Callable[[], object]) -> object:
        """Make a move, however many blocks it takes."""
        while True:
            try:
                return move()
            except Missing as missing:
                self.fetched.append(missing.block)
                start = missing.block * tui.logfile.BLOCK
                self.window.put(start, self.data[start : start + tui.logfile.BLOCK], len(self.data))

    def texts(self) -> list[str]:
        """What is on the screen."""
        self.do(self.window.rows)
        return [row.text for row in self.window.rows()]


def lines(count: int) -> bytes:
    """That many numbered lines."""
    return b"".join(b"line %d\n" % number for number in range(count))


@given(CONTENTS)
def test_lines_are_the_same_from_both_sides(parts: list[bytes]) -> None:
    data = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tui.logfile, "BLOCK", SMALL)
        file = File(data)
        start, pieces = 0, []
        while start < len(data):
            end = file.do(lambda at=start: file.window.blocks.end_of(at))  # type: ignore[misc]
            assert isinstance(end, int) and start < end <= start + 3 * SMALL
            pieces.append((start, end))
            start = end
        assert b"".join(data[start:end] for start, end in pieces) == data
        for start, end in pieces:
            assert b"\n" not in data[start : end - 1]
            for offset in range(start, end):
                assert file.do(lambda at=offset: file.window.blocks.start_of(at)) == start  # type: ignore[misc]


@given(CONTENTS, st.booleans(), st.integers(1, 5), st.lists(st.integers(-7, 7)))
def test_moving_about_never_leaves_the_file(parts: list[bytes], wrap: bool, height: int, moves: list[int]) -> None:
    data = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tui.logfile, "BLOCK", SMALL)
        file = File(data)
        file.window.wrap = wrap
        file.window.resize(4, height)
        everything: list[str] = []
        file.window.height = 10_000
        everything = file.texts()
        file.window.height = height
        for by in moves:
            file.do(lambda by=by: file.window.scroll(by))  # type: ignore[misc]
            seen = file.texts()
            assert len(seen) == min(height, len(everything))
            assert any(everything[at : at + len(seen)] == seen for at in range(len(everything) + 1))
        file.do(file.window.to_end)
        assert file.texts() == everything[-height:]
        file.do(lambda: file.window.scroll(-10_000))
        assert file.window.top == (0, 0)


def test_the_end_of_one_endless_line_takes_few_blocks() -> None:
    file = File(b"x" * 10_000_000)
    file.window.resize(80, 50)
    file.window.wrap = True
    file.do(file.window.to_end)
    assert len(file.texts()) == 50 and set(file.texts()[0]) == {"x"}
    assert len(file.fetched) < 6


def test_the_end_of_a_large_file_takes_few_blocks() -> None:
    file = File(lines(500_000))
    file.window.resize(80, 50)
    file.do(file.window.to_end)
    assert file.texts() == [f"line {number}" for number in range(499_950, 500_000)]
    assert len(file.fetched) <= 2


def test_a_growing_file_is_read_on_from_where_it_ended() -> None:
    file = File(b"one\ntw")
    assert file.texts() == ["one", "tw"]
    file.window.put(6, b"o\nthree\n", 14)
    assert file.texts() == ["one", "two", "three"]
    assert file.fetched == [0]


def test_a_file_that_became_smaller_is_a_new_one() -> None:
    file = File(lines(100))
    file.window.resize(80, 5)
    file.do(file.window.to_end)
    file.data = b"new\n"
    file.window.put(4, b"", 4)
    assert file.texts() == ["new"]


def test_rows_that_are_folded_scroll_one_by_one() -> None:
    file = File(b"abcdefghij\nxyz\n")
    file.window.wrap = True
    file.window.resize(4, 2)
    assert file.texts() == ["abcd", "efgh"]
    file.do(lambda: file.window.scroll(1))
    assert file.texts() == ["efgh", "ij"]
    file.do(lambda: file.window.scroll(1))
    assert file.texts() == ["ij", "xyz"]
    file.do(lambda: file.window.scroll(-1))
    assert file.texts() == ["efgh", "ij"]


def test_going_to_a_byte_shows_some_rows_above() -> None:
    file = File(lines(1000))
    file.window.resize(80, 10)
    file.do(lambda: file.window.to(file.data.index(b"line 500"), above=3))
    assert file.texts()[0] == "line 497"
    file.do(lambda: file.window.to(10**9))
    assert file.texts()[-1] == "line 999"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain\n", "plain"),
        (b"dos\r\n", "dos"),
        (b"10%\r50%\r99%\n", "99%"),
        (b"10%\r99%\r", "99%"),
        (b"\x1b[1;32mok\x1b[0m\x1b[K", "ok"),
        (b"\x1b]0;title\x07\x1b[2J", "␛]0;title␇␛[2J"),
        (b"a\tb", "a       b"),
        ("日本\tb".encode(), "日本    b"),
        (b"\xff\xfe ok", "\ufffd\ufffd ok"),
        (b"nul\x00del\x7f", "nul␀del␡"),
        ("\u202eevil\u200b".encode(), "·evil·"),
        ("👩\u200d👩 ❤\ufe0f".encode(), "👩👩 ❤"),
    ],
)
def test_what_a_line_looks_like(raw: bytes, text: str) -> None:
    assert shown(raw) == text


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_nothing_steers_the_terminal(raw: bytes) -> None:
    text = shown(raw)
    assert text.isprintable() or not text
    assert cells(text) == cell_len(text)


@given(st.text(), st.integers(2, 9))
def test_folding_keeps_everything_within_the_width(text: str, width: int) -> None:
    text = shown(text.encode("utf-8", "replace"))
    rows = folded(text, width)
    assert "".join(rows) == text
    assert all(cells(row) <= width for row in rows)


@given(st.text(), st.integers(0, 9), st.integers(1, 9))
def test_a_slice_has_exactly_its_width(text: str, left: int, width: int) -> None:
    assert cells(slice_cells(shown(text.encode("utf-8", "replace")), left, width)) == width


def test_half_a_wide_character_is_a_blank() -> None:
    assert slice_cells("a日b", 0, 2) == "a "
    assert slice_cells("a日b", 2, 2) == " b"
    assert slice_cells("a日b", 1, 3) == "日b"
