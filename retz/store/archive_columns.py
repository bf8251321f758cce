"""The sidecar of an archive segment: one column per field that filters and sorts need.

Columns instead of rows: a filter over a segment of 50 000 entries touches one or two of them (some 2 ms), and a
sealed segment's columns are memory-mapped, so that nothing is loaded before it is needed.

File layout (native byte order; a foreign one does not fit its own size and is rebuilt)::

    magic 8s | crc32 of the rest I | rows I | tables' bytes I | unused I | size of the data file Q
    column id, column offset, ... (widest first, so that each is aligned)
    tables: JSON

Rows stand in ascending order of id. Texts are kept once, in the tables; a row has their numbers.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from retz.model.job import STATES, Job, State

COLUMNS = (
    ("id", "Q"),
    ("offset", "Q"),  # of the entry's line in the data file
    ("submitted", "d"),
    ("started", "d"),  # of the last attempt; NaN if there was none
    ("ended", "d"),
    ("length", "I"),  # of the line, newline included
    ("name", "I"),  # CRC of the name: equal names have equal numbers, the record decides
    ("owner", "I"),
    ("application", "I"),
    ("pipeline", "I"),  # 0: none
    ("tags", "I"),  # number of the set of tags
    ("state", "B"),
    ("priority", "b"),
    ("held", "B"),
)
STATE_NUMBER: dict[State, int] = {state: number for number, state in enumerate(STATES)}

_HEADER = struct.Struct("=8sIIIIQ")
_MAGIC = b"RETZIDX1"
_CRC_FROM = 12
_ROW_BYTES = sum(array(code).itemsize for _, code in COLUMNS)


class DamagedIndex(Exception):
    """The sidecar is missing, damaged or belongs to other data; it can be rebuilt from its data file."""


class AttemptTimes(Struct, gc=False):
    """What the sidecar keeps of an attempt."""

    started: float | None = None


class EntryFields(Struct, gc=False):
    """The part of a job's record that the sidecar keeps; decoding only this is three times as fast."""

    id: int
    owner: str
    submitted: float
    application: str = "default"
    name: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    pipeline: str | None = None
    state: State = "QUEUED"
    held: bool = False
    ended: float | None = None
    attempts: tuple[AttemptTimes, ...] = ()


class Tables(Struct, gc=False):
    """The texts that rows refer to by number. Append only, so that readers need no lock."""

    owners: list[str] = []
    applications: list[str] = []
    pipelines: list[str | None] = []
    tagsets: list[tuple[str, ...]] = []


class Columns:
    """The columns of one segment: sequences of equal length, rows in the order in which they were written."""

    __slots__ = tuple(name for name, _ in COLUMNS)

    id: Sequence[int]
    offset: Sequence[int]
    submitted: Sequence[float]
    started: Sequence[float]
    ended: Sequence[float]
    length: Sequence[int]
    name: Sequence[int]
    owner: Sequence[int]
    application: Sequence[int]
    pipeline: Sequence[int]
    tags: Sequence[int]
    state: Sequence[int]
    priority: Sequence[int]
    held: Sequence[int]

    def __init__(self, columns: Sequence[Sequence[Any]]) -> None:
        for (name, _), column in zip(COLUMNS, columns, strict=True):
            setattr(self, name, column)


def name_number(name: str) -> int:
    """The number that stands for a name in a row."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


class Builder:
    """Columns that grow: the active segment's, or a lost sidecar's while it is rebuilt.

    One thread adds; others may read the first ``count`` rows meanwhile, for ``count`` is raised last.
    """

    def __init__(self) -> None:
        self.arrays: list[array[Any]] = [array(code) for _, code in COLUMNS]
        self.columns = Columns(self.arrays)
        self.tables = Tables([], [], [None], [])
        self.position: dict[int, int] = {}
        self.count = 0
        self._numbers: tuple[dict[Any, int], ...] = ({}, {}, {None: 0}, {})

    def add(self, entry: EntryFields | Job, offset: int, length: int) -> None:
        """Append a row. An id that is there already is left as it was first written."""
        if entry.id in self.position:
            return
        started = entry.attempts[-1].started if entry.attempts else None
        ended = entry.ended if entry.ended is not None else entry.submitted
        row = (
            entry.id,
            offset,
            entry.submitted,
            math.nan if started is None else started,
            ended,
            length,
            name_number(entry.name),
            self._number(0, entry.owner),
            self._number(1, entry.application),
            self._number(2, entry.pipeline),
            self._number(3, entry.tags),
            STATE_NUMBER[entry.state],
            entry.priority,
            entry.held,
        )
        for column, value in zip(self.arrays, row, strict=True):
            column.append(value)
        self.position[entry.id] = self.count
        self.count += 1

    def _number(self, which: int, text: Any) -> int:
        numbers = self._numbers[which]
        number = numbers.get(text)
        if number is None:
            table: list[Any] = (
                self.tables.owners,
                self.tables.applications,
                self.tables.pipelines,
                self.tables.tagsets,
            )[which]
            number = numbers[text] = len(table)
            table.append(text)
        return number

    def encode(self, data_bytes: int) -> bytes:
        """The sidecar file for a data file of ``data_bytes``."""
        ids = self.columns.id
        order = sorted(range(self.count), key=ids.__getitem__)
        parts = [
            array(code, map(column.__getitem__, order)).tobytes()
            for (_, code), column in zip(COLUMNS, self.arrays, strict=True)
        ]
        tables = msgspec.json.encode(self.tables)
        head = _HEADER.pack(_MAGIC, 0, self.count, len(tables), 0, data_bytes)
        crc = zlib.crc32(head[_CRC_FROM:])
        for part in (*parts, tables):
            crc = zlib.crc32(part, crc)
        head = _HEADER.pack(_MAGIC, crc, self.count, len(tables), 0, data_bytes)
        return b"".join((head, *parts, tables))


def check_size(path: Path, data_bytes: int) -> None:
    """Raise :class:`DamagedIndex` if the sidecar's header does not fit its own or its data file's size."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEADER.size)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DamagedIndex(str(error)) from error
    if len(head) < _HEADER.size:
        raise DamagedIndex(f"{path} is cut short")
    magic, _, rows, tables_bytes, _, of_bytes = _HEADER.unpack(head)
    if magic != _MAGIC or of_bytes != data_bytes or size != _HEADER.size + rows * _ROW_BYTES + tables_bytes:
        raise DamagedIndex(f"{path} does not belong to its data file")


def load(path: Path, data_bytes: int) -> tuple[Columns, int, memoryview]:
    """Map a sidecar: (columns, number of rows, the tables' JSON).

    Raises:
        DamagedIndex: it is missing, damaged, or does not describe a data file of ``data_bytes``.
    """
    check_size(path, data_bytes)
    with open(path, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    _, crc, rows, tables_bytes, _, _ = _HEADER.unpack_from(view)
    if zlib.crc32(view[_CRC_FROM:]) != crc:
        raise DamagedIndex(f"{path} is damaged")
    columns: list[Sequence[Any]] = []
    start = _HEADER.size
    for _, code in COLUMNS:
        end = start + rows * array(code).itemsize
        # typeshed lists the codes one by one; ours are all among them.
        columns.append(view[start:end].cast(code))  # type: ignore[call-overload]
        start = end
    return Columns(columns), rows, view[start : start + tables_bytes]
