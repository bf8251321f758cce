"""The journal's file format.

A journal is a text file of lines. The first is a header, ``<crc> {"retz": "journal", "schema": 1, "first": 17}``;
every other line is one atomic batch of changes::

    <crc32, 8 hex> <sequence number of the first change> <number of changes> [[table, id, record or null], …]

The CRC covers everything after it but the newline. It is computed over the array first and the two numbers
last, so that a large batch can be summed piece by piece before its place in the journal is known.
JSON escapes newlines, so a newline byte always ends a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

import msgspec

from .errors import StoreDamaged

Id = int | str
RawChange = tuple[str, Id, msgspec.Raw]

encode = msgspec.json.Encoder().encode
_decode_changes = msgspec.json.Decoder(list[RawChange]).decode
_HEAD = re.compile(rb"([0-9a-f]{8}) (([0-9]+) ([0-9]+) )")
_NAME = re.compile(r"journal-([0-9]{20})\.log")
_NEWLINE = 10


class Line(NamedTuple):
    """A valid batch: where it stands in its file, its numbers, and the JSON array."""

    offset: int
    first: int
    changes: int
    body: memoryview

    @property
    def last(self) -> int:
        """Sequence number of its last change."""
        return self.first + self.changes - 1

    @property
    def body_offset(self) -> int:
        """Where the array stands in the file."""
        return self.offset + len(self.body.obj) - 1 - len(self.body)  # type: ignore[arg-type]


def journal_name(first: int) -> str:
    """Return the name of the journal whose first change has number ``first``."""
    return f"journal-{first:020}.log"


def journal_first(name: str) -> int | None:
    """Return the number in a journal's name, None for another file."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def header_line(fields: dict[str, Any]) -> bytes:
    """Return the first line of a journal or snapshot."""
    body = encode(fields)
    return b"%08x %b\n" % (crc32(body), body)


def parse_header(line: bytes) -> dict[str, Any] | None:
    """Return the fields of a header line, None if it is not intact."""
    body = line[9:-1]
    if line[-1:] != b"\n" or line[:9] != b"%08x " % crc32(body):
        return None
    fields = msgspec.json.decode(body)
    return fields if isinstance(fields, dict) else None


def line_head(first: int, count: int, body_crc: int) -> bytes:
    """Return what stands before the array in a line."""
    numbers = b"%d %d " % (first, count)
    return b"%08x %b" % (crc32(numbers, body_crc), numbers)


def encode_line(first: int, changes: Sequence[tuple[str, Id, Any]]) -> bytes:
    """Return one whole line, newline included."""
    body = encode(changes)
    return b"%b%b\n" % (line_head(first, len(changes), crc32(body)), body)


def parse_line(line: bytes, offset: int = 0) -> Line | None:
    """Return the batch in ``line`` (newline included), None if one bit of it is wrong."""
    head = _HEAD.match(line)
    if head is None or line[-1] != _NEWLINE:
        return None
    body = memoryview(line)[head.end() : -1]
    if b"%08x" % crc32(head[2], crc32(body)) != head[1]:
        return None
    return Line(offset, int(head[3]), int(head[4]), body)


def line_numbers(line: bytes) -> tuple[int, int] | None:
    """Return (first, count) without checking the line: to skip lines quickly."""
    head = _HEAD.match(line)
    return (int(head[3]), int(head[4])) if head else None


def decode_changes(line: Line) -> list[RawChange]:
    """Return the changes of a valid line with their records still as JSON.

    Raises:
        ValueError: if the array is not what the numbers say.
    """
    try:
        changes = _decode_changes(line.body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not an array of changes: {error}") from None
    if len(changes) != line.changes:
        raise ValueError(f"{len(changes)} changes where {line.changes} are announced")
    return changes


def _holds_valid_line(piece: bytes) -> bool:
    """Whether an intact line is hidden in ``piece``, behind a newline that was overwritten."""
    return any(parse_line(piece[match.start() :]) for match in _HEAD.finditer(piece))


class JournalReader:
    """Iterate over the valid batches of one open journal.

    Attributes:
        header: Its fields.
        end: Offset just after the last valid line, growing as one iterates.
        torn: Bytes after ``end`` that are a torn tail; known once the iteration is over.

    Raises:
        StoreDamaged: at the header, at a bad line that is followed by a valid one (or that stands in a sealed
            journal, which was complete when its successor was made), and where numbers do not follow.
    """

    def __init__(self, stream: BinaryIO, path: Path, *, sealed: bool) -> None:
        self._stream = stream
        self._path = path
        self._sealed = sealed
        line = stream.readline()
        header = parse_header(line)
        if header is None or header.get("retz") != "journal":
            raise StoreDamaged(path, 0, "the header line of the journal is not intact")
        self.header = header
        self.schema = int(header["schema"])
        self.end = len(line)
        self.torn = 0

    def __iter__(self) -> Iterator[Line]:
        expected = int(self.header["first"])
        for raw in self._stream:
            line = parse_line(raw, self.end)
            if line is None:
                self._judge(raw)
                return
            if line.first != expected:
                raise StoreDamaged(self._path, self.end, f"change {line.first} stands where change {expected} should")
            yield line
            self.end += len(raw)
            expected += line.changes

    def _judge(self, bad: bytes) -> None:
        """Tell a torn tail from damage: after a torn tail nothing valid follows."""
        if self._sealed:
            raise StoreDamaged(self._path, self.end, "a record of a sealed journal is not intact")
        self.torn = len(bad)
        follows = _holds_valid_line(bad[1:])
        for raw in self._stream:
            self.torn += len(raw)
            follows = follows or parse_line(raw) is not None or _holds_valid_line(raw)
        if follows:
            raise StoreDamaged(self._path, self.end, "a record is not intact, yet valid records follow it")
