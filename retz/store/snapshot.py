"""The snapshot's file format: all records as they stood after one change.

Header ``<crc> {"retz": "snapshot", "schema": 1, "seq": 17, "next_ids": {"jobs": 12}}``, one line
``[table, id, record]`` for each record, footer ``{"count": 3, "crc": "…"}`` over everything before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import msgspec

from .errors import StoreDamaged
from .files import FileLayer
from .journal import encode, header_line, parse_header

_NAME = re.compile(r"snapshot-([0-9]{20})\.jsonl")
_PIECE = 1 << 20


def snapshot_name(seq: int) -> str:
    """Return the name of the snapshot taken after change ``seq``."""
    return f"snapshot-{seq:020}.jsonl"


def snapshot_seq(name: str) -> int | None:
    """Return the number in a snapshot's name, None for another file."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def write_snapshot(files: FileLayer, path: Path, fields: dict[str, Any], lines: Iterable[bytes]) -> None:
    """Write a snapshot durably under its name; ``lines`` without newlines."""
    temporary = path.with_name(path.name + ".tmp")
    fd = files.create(temporary)
    try:
        count = 0
        piece = bytearray(header_line({"retz": "snapshot", **fields}))
        crc = 0
        for line in lines:
            count += 1
            piece += line
            piece += b"\n"
            if len(piece) >= _PIECE:
                crc = crc32(piece, crc)
                files.write_all(fd, [bytes(piece)])
                piece.clear()
        crc = crc32(piece, crc)
        piece += encode({"count": count, "crc": f"{crc:08x}"}) + b"\n"
        files.write_all(fd, [bytes(piece)])
        files.fsync(fd)
        files.rename(temporary, path)
        files.fsync_dir(path.parent)
    finally:
        files.close(fd)


class SnapshotReader:
    """Iterate over ``(offset, line)`` of an open snapshot, newlines included, footer excluded.

    The lines may be believed only when the iteration has ended without StoreDamaged.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._header = stream.readline()
        header = parse_header(self._header)
        if header is None or header.get("retz") != "snapshot":
            raise StoreDamaged(path, 0, "the header line of the snapshot is not intact")
        self.header = header
        self.seq = int(header["seq"])
        self.schema = int(header["schema"])
        self.next_ids: dict[str, int] = dict(header["next_ids"])

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        offset = len(self._header)
        crc = crc32(self._header)
        for count, line in enumerate(self._stream):
            if line[:1] == b"{":
                self._check_footer(line, offset, count, crc)
                return
            yield offset, line
            crc = crc32(line, crc)
            offset += len(line)
        raise StoreDamaged(self._path, offset, "the snapshot ends without its footer")

    def _check_footer(self, line: bytes, offset: int, count: int, crc: int) -> None:
        try:
            footer = msgspec.json.decode(line)
        except msgspec.DecodeError:
            raise StoreDamaged(self._path, offset, "the footer of the snapshot is not intact") from None
        if footer != {"count": count, "crc": f"{crc:08x}"} or self._stream.read(1):
            raise StoreDamaged(self._path, offset, "the checksum of the snapshot does not match")
