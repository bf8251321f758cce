"""Looking for something in a remote file of any size: a piece at a time, forwards or backwards, until cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from retz.client.types import FileRange

Read = Callable[[int, int | None], Awaitable[FileRange]]
"""(offset, length) -> bytes; a negative offset counts from the end, a length of None reads on to it."""

Tell = Callable[[int], None]
"""Is told how far it is, in bytes from the start of the file."""

STEP = 1024 * 1024


def folded_case(needle: str) -> bool:
    """Whether capital letters do not matter: if the text that is looked for has none."""
    return needle.isascii() and needle == needle.lower()


class Search:
    """One text to look for. Capital letters matter only if there are any in it."""

    def __init__(self, needle: str) -> None:
        self.needle = needle
        self._bytes = needle.encode()
        self._any_case = folded_case(needle)

    async def forward(self, read: Read, start: int, tell: Tell) -> int | None:
        """The first place at or after ``start``, or None."""
        rest = b""
        while True:
            data = (await read(start, STEP)).data
            if not data:
                return None
            heap = rest + data
            at = self._fold(heap).find(self._bytes)
            if at >= 0:
                return start - len(rest) + at
            start += len(data)
            rest = heap[len(heap) - min(len(heap), len(self._bytes) - 1) :]
            tell(start)

    async def backward(self, read: Read, before: int, tell: Tell) -> int | None:
        """The last place before ``before``, or None."""
        while before > 0:
            start = max(0, before - STEP)
            data = (await read(start, before - start + len(self._bytes) - 1)).data
            at = self._fold(data).rfind(self._bytes)
            if at >= 0:
                return start + at
            before = start
            tell(start)
        return None

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where it stands in a line, as (from, to) of characters."""
        heap = text.lower() if self._any_case and text.isascii() else text
        found: list[tuple[int, int]] = []
        at = heap.find(self.needle)
        while at >= 0:
            found.append((at, at + len(self.needle)))
            at = heap.find(self.needle, at + len(self.needle))
        return found

    def _fold(self, data: bytes) -> bytes:
        return data.lower() if self._any_case else data


async def line_start(read: Read, number: int, tell: Tell) -> int | None:
    """Where the line of that number (the first is 1) begins, or None if there are not so many."""
    start, left = 0, number - 1
    while left:
        data = (await read(start, STEP)).data
        if not data:
            return None
        lines = data.count(b"\n")
        if lines >= left:
            return start + _after(data, left)
        left -= lines
        start += len(data)
        tell(start)
    return start


def _after(data: bytes, lines: int) -> int:
    """The place behind so many newlines."""
    at = 0
    for _ in range(lines):
        at = data.index(b"\n", at) + 1
    return at
