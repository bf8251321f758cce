"""A file on the other side of the network, looked at through a window of lines without ever having all of it.

The file is known as blocks of bytes (:class:`Blocks`), of which a few are kept. Nothing here does I/O: whoever needs a
block that is not there gets :class:`Missing`, fetches it, and tries again. Work is bounded whatever the file holds:
a line that fills a whole block is cut there, so that no step looks at more than a few blocks.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import get_character_cell_size

from .text import printable

BLOCK = 16 * 1024
KEPT = 512
"""Blocks in memory: 8 MiB, more than a high screen of the longest lines needs."""

TAB = 8
_COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
"""Colours and erasures: of what programs write to terminals, all that may be left out without a trace."""
_JOINERS = "\u200d\ufe0e\ufe0f"
"""Terminals disagree on the width of what these make; alone, every character has one."""


class Missing(Exception):
    """The block of that number has to be fetched first."""

    def __init__(self, block: int) -> None:
        super().__init__(f"block {block} is not there")
        self.block = block


class Blocks:
    """What is known of the file.

    Attributes:
        size: Bytes that it had when we last heard of it.
    """

    def __init__(self) -> None:
        self.size = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def put(self, offset: int, data: bytes, size: int) -> None:
        """Take bytes that were read at ``offset``. A file that became smaller is a new one."""
        if size < self.size:
            self._kept.clear()
        self.size = size
        while data:
            number, at = divmod(offset, BLOCK)
            part, data = data[: BLOCK - at], data[BLOCK - at :]
            offset += len(part)
            known = self._kept.get(number, b"")
            if at <= len(known):
                self._kept[number] = known[:at] + part + known[at + len(part) :]
                self._kept.move_to_end(number)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def __getitem__(self, number: int) -> bytes:
        """The whole block, as far as the file goes.

        Raises:
            Missing: it is not there, or it has grown.
        """
        block = self._kept.get(number, b"")
        if len(block) < min(BLOCK, self.size - number * BLOCK):
            raise Missing(number)
        if block:
            self._kept.move_to_end(number)
        return block

    def known(self, number: int) -> int:
        """How many bytes of a block are there."""
        return len(self._kept.get(number, b""))

    def read(self, start: int, stop: int) -> bytes:
        """Bytes of the file."""
        first, last = start // BLOCK, max(start, stop - 1) // BLOCK
        data = b"".join(self[number] for number in range(first, last + 1))
        return data[start - first * BLOCK : stop - first * BLOCK]

    # -- lines ---------------------------------------------------------------------------------------------------

    def start_of(self, offset: int) -> int:
        """Where the line begins that holds the byte at ``offset``."""
        if offset <= 0:
            return 0
        number = min(offset, self.size - 1) // BLOCK
        stop = offset - number * BLOCK
        while True:
            at = self[number].rfind(b"\n", 0, stop)
            if at >= 0:
                return number * BLOCK + at + 1
            cut = self._cut(number)
            if cut is not None and cut <= offset:
                return cut
            number -= 1
            stop = BLOCK

    def end_of(self, start: int) -> int:
        """Where the line that begins at ``start`` ends, its newline included."""
        number = start // BLOCK
        at = self[number].find(b"\n", start - number * BLOCK)
        while at < 0:
            number += 1
            if number * BLOCK >= self.size:
                return self.size
            cut = self._cut(number)
            if cut is not None and cut > start:
                return cut
            at = self[number].find(b"\n")
        return number * BLOCK + at + 1

    def _cut(self, number: int) -> int | None:
        """Where a line is cut at the beginning of a block: if the whole block before it has no newline."""
        if number == 0:
            return 0
        if b"\n" in self[number - 1]:
            return None
        head = self[number][:3] if number * BLOCK < self.size else b""
        # Not within a character of UTF-8: at most three bytes continue one.
        return number * BLOCK + len(head) - len(head.lstrip(bytes(range(0x80, 0xC0))))


class _Shown(dict[int, str]):
    """For ``str.translate``: each character as it may be drawn, found once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shown = self[code] = "" if character in _JOINERS else printable(character)
        return shown


_SHOWN = _Shown()


def shown(raw: bytes) -> str:
    """A line as it may be drawn: of what overwrote itself (``\\r``) the last, tabs expanded, nothing that steers."""
    last = raw.rstrip(b"\r\n").rpartition(b"\r")[2]
    text = last.decode("utf-8", "replace")
    if text.isascii() and text.isprintable():
        return text
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    if "\t" in text:
        text = _expanded(text)
    return text.translate(_SHOWN)


def _expanded(text: str) -> str:
    parts: list[str] = []
    column = 0
    for part in re.split("(\t)", text):
        blank = " " * (TAB - column % TAB) if part == "\t" else part
        parts.append(blank)
        column += cells(blank.translate(_SHOWN))
    return "".join(parts)


def cells(text: str) -> int:
    """The width of what :func:`shown` made."""
    return len(text) if text.isascii() else sum(map(get_character_cell_size, text))


def folded(text: str, width: int) -> list[str]:
    """The text in rows of at most ``width`` cells."""
    if text.isascii():
        return [text[at : at + width] for at in range(0, len(text), width)] or [""]
    rows: list[str] = []
    begun = taken = 0
    for index, character in enumerate(text):
        size = get_character_cell_size(character)
        if taken + size > width:
            rows.append(text[begun:index])
            begun, taken = index, 0
        taken += size
    return [*rows, text[begun:]]


def slice_cells(text: str, left: int, width: int) -> str:
    """The cells from ``left`` on, exactly ``width`` of them; half a wide character is a blank."""
    if text.isascii():
        return text[left : left + width].ljust(width)
    out: list[str] = []
    column = 0
    for character in text:
        size = get_character_cell_size(character)
        if column >= left + width:
            break
        if column >= left and column + size <= left + width:
            out.append(character)
        elif column + size > left and size:
            out.append(" ")
        column += size
    return "".join(out) + " " * max(0, left + width - max(column, left))


class Row(NamedTuple):
    """One row of the screen: a line of the file, or a part of one that is folded.

    Attributes:
        start, end: Bytes of the line.
        part: Which row of the line.
    """

    start: int
    end: int
    part: int
    text: str


class LogWindow:
    """The rows on the screen. Positions are (start of a line, row within it).

    Every moving method either moves or raises :class:`Missing` and changes nothing.
    """

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.width = 80
        self.height = 24
        self.wrap = False
        self.top = (0, 0)
        self._texts: OrderedDict[tuple[int, int], str] = OrderedDict()

    def put(self, offset: int, data: bytes, size: int) -> None:
        """Take bytes of the file; see :meth:`Blocks.put`."""
        if size < self.blocks.size:
            self._texts.clear()
            self.top = (0, 0)
        self.blocks.put(offset, data, size)

    def resize(self, width: int, height: int) -> None:
        """The screen has this size now."""
        self.width, self.height = max(1, width), max(1, height)

    def rows(self) -> list[Row]:
        """What is to be drawn, from the top."""
        rows: list[Row] = []
        skip = self.top[1]
        for start, end in self._lines(self.top[0]):
            rows += self._rows_of(start, end)[skip:]
            skip = 0
            if len(rows) >= self.height:
                break
        return rows[: self.height]

    def scroll(self, by: int) -> None:
        """Move by rows."""
        self.top = self._up(self.top, -by) if by < 0 else min(self._down(self.top, by), self.bottom())

    def to_start(self) -> None:
        """To the first row."""
        self.top = (0, 0)

    def to_end(self) -> None:
        """So that the last row is the lowest."""
        self.top = self.bottom()

    def to(self, offset: int, above: int = 0) -> None:
        """To the line that holds a byte, with some rows above it."""
        start = self.blocks.start_of(max(0, min(offset, self.blocks.size - 1)))
        self.top = min(self._up((start, 0), above), self.bottom())

    def bottom(self) -> tuple[int, int]:
        """The lowest top there is."""
        size = self.blocks.size
        if not size:
            return (0, 0)
        start = self.blocks.start_of(size - 1)
        last = self._height_of(start, size) - 1
        return self._up((start, last), self.height - 1)

    def _up(self, place: tuple[int, int], by: int) -> tuple[int, int]:
        start, part = place
        while by > part and start > 0:
            by -= part + 1
            end, start = start, self.blocks.start_of(start - 1)
            part = self._height_of(start, end) - 1
        return start, max(0, part - by)

    def _down(self, place: tuple[int, int], by: int) -> tuple[int, int]:
        start, part = place
        for begin, end in self._lines(start):
            start, number = begin, self._height_of(begin, end)
            if part + by < number:
                return start, part + by
            by -= number - part
            part = 0
        return start, 0

    def _lines(self, start: int) -> Iterator[tuple[int, int]]:
        while start < self.blocks.size:
            end = self.blocks.end_of(start)
            yield start, end
            start = end

    def _height_of(self, start: int, end: int) -> int:
        return len(self._rows_of(start, end)) if self.wrap else 1

    def _rows_of(self, start: int, end: int) -> list[Row]:
        if not self.wrap:
            return [Row(start, end, 0, self._text(start, end))]
        parts = folded(self._text(start, end), self.width)
        return [Row(start, end, part, text) for part, text in enumerate(parts)]

    def _text(self, start: int, end: int) -> str:
        text = self._texts.get((start, end))
        if text is None:
            text = self._texts[start, end] = shown(self.blocks.read(start, end))
            if len(self._texts) > 4 * self.height:
                self._texts.popitem(last=False)
        return text
