"""Merging the last snapshot with the sealed journals into a new snapshot.

Runs as a process of its own (``python -m retz.store.compaction <store>``), so that the server's loop never
waits for it. Records stay on disk while it works: it remembers where the latest version of each one stands.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec

from .errors import StoreDamaged
from .files import FileLayer
from .journal import Id, JournalReader, Line, decode_changes, encode
from .layout import Layout, read_layout
from .options import StoreOptions
from .records import NULL, SCHEMA, check_schema, migrate_raw
from .snapshot import SnapshotReader, snapshot_name, write_snapshot

_decode_entry = msgspec.json.Decoder(tuple[str, Id, msgspec.Raw]).decode


class _Place(msgspec.Struct, gc=False, array_like=True):
    """Where a record's JSON stands."""

    source: int
    offset: int
    length: int


class _Source(msgspec.Struct):
    stream: BinaryIO
    schema: int


class Merge:
    """The latest version of every record in one snapshot and the journals after it, as places in files."""

    def __init__(self, files: FileLayer) -> None:
        self._files = files
        self._sources: list[_Source] = []
        self._places: dict[tuple[str, Id], _Place] = {}
        self.next_ids: dict[str, int] = {}
        self.seq = 0

    def snapshot(self, stream: BinaryIO, path: Path) -> None:
        """Take the records of a snapshot."""
        reader = SnapshotReader(stream, path)
        source = self._source(stream, reader.schema, path)
        for offset, line in reader:
            table, key, raw = _decode_entry(line)
            self._put(table, key, source, offset + len(encode((table, key))), raw)
        for table, number in reader.next_ids.items():
            self.next_ids[table] = max(number, self.next_ids.get(table, 1))
        self.seq = reader.seq

    def journal(self, stream: BinaryIO, path: Path) -> None:
        """Take the changes of a sealed journal."""
        reader = JournalReader(stream, path, sealed=True)
        if reader.header["first"] != self.seq + 1:
            raise StoreDamaged(path, 0, f"it begins with change {reader.header['first']}, not {self.seq + 1}")
        source = self._source(stream, reader.schema, path)
        for line in reader:
            try:
                self._line(line, source)
            except ValueError as error:
                raise StoreDamaged(path, line.offset, str(error)) from None
            self.seq = line.last

    def _line(self, line: Line, source: int) -> None:
        position = line.body_offset + 1
        for table, key, raw in decode_changes(line):
            position += len(encode((table, key)))
            self._put(table, key, source, position, raw)
            position += len(raw) + 2

    def _source(self, stream: BinaryIO, schema: int, path: Path) -> int:
        check_schema(schema, path)
        self._sources.append(_Source(stream, schema))
        return len(self._sources) - 1

    def _put(self, table: str, key: Id, source: int, offset: int, raw: msgspec.Raw) -> None:
        if isinstance(key, int) and key >= self.next_ids.get(table, 1):
            self.next_ids[table] = key + 1
        if len(raw) == 4 and bytes(raw) == NULL:
            self._places.pop((table, key), None)
        else:
            self._places[table, key] = _Place(source, offset, len(raw))

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the new snapshot, ordered by table and id."""
        for table, key in sorted(self._places, key=lambda where: (where[0], str(where[1]).zfill(20))):
            place = self._places[table, key]
            source = self._sources[place.source]
            source.stream.seek(place.offset)
            raw = migrate_raw(table, source.stream.read(place.length), source.schema)
            yield b"%b,%b]" % (encode((table, key))[:-1], raw)


def merge(store: Path, files: FileLayer) -> Path | None:
    """Write a snapshot up to the end of the last sealed journal; None when there is nothing new to merge.

    Raises:
        StoreDamaged: if anything is not intact; no snapshot is written then.
    """
    layout = read_layout(store, files)
    base = max((seq for seq in layout.snapshots if seq + 1 in layout.journals), default=0)
    active = max(layout.journals)
    fresh = [first for first in layout.journals if base < first < active]
    if not fresh:
        return None
    work = Merge(files)
    with ExitStack() as stack:
        if base:
            path = layout.snapshots[base]
            work.snapshot(stack.enter_context(files.open_read(path)), path)
        for first in fresh:
            path = layout.journals[first]
            work.journal(stack.enter_context(files.open_read(path)), path)
        if work.seq != active - 1:
            raise StoreDamaged(layout.journals[active], 0, f"it begins with change {active}, not {work.seq + 1}")
        target = store / snapshot_name(work.seq)
        write_snapshot(files, target, {"schema": SCHEMA, "seq": work.seq, "next_ids": work.next_ids}, work.lines())
    _verify(target, files)
    return target


def _verify(path: Path, files: FileLayer) -> None:
    """Read a snapshot back before anything older is deleted."""
    with files.open_read(path) as stream:
        for _ in SnapshotReader(stream, path):
            pass


def clean(store: Path, files: FileLayer, options: StoreOptions, now: float) -> list[Path]:
    """Delete what the newest snapshot makes superfluous: older snapshots, and merged journals past their time.

    Oldest first, so that what remains has no gaps. Returns what was deleted.
    """
    layout = read_layout(store, files)
    if not layout.snapshots:
        return []
    newest = max(layout.snapshots)
    doomed = [path for seq, path in layout.snapshots.items() if seq < newest]
    doomed += _expired(layout, newest, files, options, now)
    for path in doomed:
        files.unlink(path)
    if doomed:
        files.fsync_dir(store)
    return doomed


def _expired(layout: Layout, newest: int, files: FileLayer, options: StoreOptions, now: float) -> list[Path]:
    merged = [path for first, path in layout.journals.items() if (layout.sealed_end(first) or newest + 1) <= newest]
    kept = sum(map(files.size, merged))
    expired = []
    for path in merged:
        if kept <= options.keep_sealed_bytes and now - files.modified(path) <= options.keep_sealed_s:
            break
        expired.append(path)
        kept -= files.size(path)
    return expired


def compactor_command(store: Path, options: StoreOptions) -> list[str]:
    """Return the command line that compacts a store in a process of its own."""
    return [
        sys.executable,
        "-P",  # a directory "retz" where the server was started is not us
        "-m",
        "retz.store.compaction",
        str(store),
        f"--keep-seconds={options.keep_sealed_s}",
        f"--keep-bytes={options.keep_sealed_bytes}",
        f"--nice={options.compactor_nice}",
    ]


def _end_with_parent() -> None:
    """Our standard input is a pipe that the server holds: when it ends, so do we, whatever the server died of."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    """Compact once; the exit code says whether it worked, standard error why not."""
    parser = argparse.ArgumentParser(prog="python -m retz.store.compaction", description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--keep-seconds", type=float, default=StoreOptions().keep_sealed_s)
    parser.add_argument("--keep-bytes", type=int, default=StoreOptions().keep_sealed_bytes)
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    files = FileLayer()
    options = StoreOptions(keep_sealed_s=arguments.keep_seconds, keep_sealed_bytes=arguments.keep_bytes)
    try:
        merge(arguments.store, files)
        clean(arguments.store, files, options, time.time())
    except (StoreDamaged, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
