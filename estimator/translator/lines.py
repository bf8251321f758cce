"""From files to blocks of whole lines, in bounded memory: plain or gzip, lines of any length, any bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from ..errors import ParseError
from .base import MAX_LINE, Bad, Finished, Progress

BLOCK = 1 << 18
"""Bytes read at once: large enough for work on whole blocks, small enough for a processor's cache."""

MAX_NAME = 1000
"""Characters of the longest name of a pipeline or run."""

_GZIP = b"\x1f\x8b"
_EXCERPT = 80


class Block(NamedTuple):
    """Whole lines, each with its end; or, with ``problem``, the beginning of what could not be read in their place."""

    data: bytes
    problem: str = ""


def blocks_of(path: Path, progress: Progress | None = None) -> Iterator[Block]:
    """The lines of a file; gzip is recognised by its content.

    The last line gets an end if it has none. A line of more than ``MAX_LINE`` bytes is a problem of its own and not
    held; damage in a gzip file is the last problem, and the half line before it is dropped.

    Raises:
        OSError: the file cannot be opened or read.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(open(path, "rb", buffering=0))
        counted = raw if progress is None else _Counted(raw, progress)
        plain = stack.enter_context(io.BufferedReader(counted, BLOCK))
        if plain.peek(2)[:2] != _GZIP:
            yield from whole_lines(lambda: plain.read1(BLOCK))
            return
        unpacked = stack.enter_context(gzip.GzipFile(fileobj=plain))
        try:
            # read1: what was unpacked before the damage is given out before the damage is met.
            yield from whole_lines(lambda: unpacked.read1(BLOCK))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield Block(b"", f"damaged gzip, the rest of the file was not read: {error}")


def whole_lines(read: Callable[[], bytes]) -> Iterator[Block]:
    """What ``read`` gives piece by piece, an empty piece being the end, cut at ends of lines."""
    held, size, skipping = [b""], 0, False
    while piece := read():
        first = piece.find(b"\n") + 1
        if not skipping and size + (first or len(piece)) > MAX_LINE + 1:
            yield Block(b"".join(held)[: 4 * _EXCERPT], f"longer than {MAX_LINE} bytes")
            skipping = True
        if skipping:
            held, size, skipping = [], 0, first == 0
            piece = b"" if first == 0 else piece[first:]
        end = piece.rfind(b"\n") + 1
        if end:
            yield Block(b"".join((*held, piece[:end])))
            held, size = [], 0
        held.append(piece[end:])
        size += len(piece) - end
    if size > MAX_LINE:  # one byte too long: in the middle that byte might have been the line's end
        yield Block(b"".join(held)[: 4 * _EXCERPT], f"longer than {MAX_LINE} bytes")
    elif size:
        yield Block(b"".join((*held, b"\n")))


def excerpt(line: bytes) -> str:
    """The beginning of a line, fit to be shown: at most 80 printable characters."""
    start = line[: 4 * _EXCERPT].decode("utf-8", "replace").rstrip("\r\n")[:_EXCERPT]
    return "".join(character if character.isprintable() else "?" for character in start)


def each_line(
    block: bytes, parse_line: Callable[[bytes], Finished | None], bad: Bad, offset: int = 0
) -> Iterator[Finished]:
    """The jobs of a block's lines, taken one by one; ``offset`` is where the block begins for ``bad``."""
    for line in block.split(b"\n")[:-1]:
        try:
            finished = parse_line(line.rstrip(b"\r"))
        except ParseError as error:
            bad(offset, str(error))
        else:
            if finished is not None:
                yield finished
        offset += len(line) + 1


def name_of(text: bytes, what: str) -> str:
    """A name as it stands in a log; bytes that are not UTF-8 are kept as escapes.

    Raises:
        ParseError: it is empty, too long, or has characters that cannot be printed.
    """
    name = text.decode("utf-8", "backslashreplace")
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ParseError(f"the name of the {what} is empty, too long or not printable")
    return name


class _Counted(io.RawIOBase):
    """Tells how much was read."""

    def __init__(self, raw: io.FileIO, progress: Progress) -> None:
        self._raw = raw
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]  # typeshed: Buffer
        count = self._raw.readinto(buffer)
        self._progress(count or 0)
        return count
