"""Reading a store back: the newest valid snapshot, then every journal after it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from .errors import StoreDamaged, StoreTooNew
from .files import FileLayer
from .journal import Id, JournalReader, decode_changes, journal_name
from .layout import Layout, read_format, read_layout
from .records import NULL, Interner, Tables, check_schema, decode_record
from .snapshot import SnapshotReader

_decode_entry = msgspec.json.Decoder(tuple[str, Id, msgspec.Raw]).decode


class Recovery(Struct, kw_only=True):
    """What opening a store found.

    Attributes:
        snapshot: Sequence number of the snapshot it began with, 0 without one.
        records: Records alive.
        replayed: Changes read from journals.
        torn_bytes, torn_file, torn_offset: The torn tail that was cut (or, read-only, ignored), if any.
        notes: Sentences for the log, such as a bad snapshot that was passed over.
        seconds: How long it took.
    """

    snapshot: int = 0
    records: int = 0
    replayed: int = 0
    torn_bytes: int = 0
    torn_file: str | None = None
    torn_offset: int | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class Loaded(Struct, kw_only=True):
    """A store's contents, and where to go on writing.

    Attributes:
        tables: Records by table and id.
        next_ids: For each table with numbers as ids, the next never used one.
        seq: Number of the last change.
        active: Path of the active journal, its first change, its valid size in bytes, its schema.
        snapshot_bytes, sealed_bytes: Size of the snapshot that was read, and of the sealed journals after it.
    """

    tables: Tables = {}
    next_ids: dict[str, int] = {}
    seq: int = 0
    active: Path = Path()
    active_first: int = 1
    active_size: int = 0
    active_schema: int = 1
    snapshot_bytes: int = 0
    sealed_bytes: int = 0
    recovery: Recovery = msgspec.field(default_factory=Recovery)


class _Loader:
    def __init__(self, files: FileLayer) -> None:
        self.files = files
        self.loaded = Loaded()
        self._interner = Interner()

    def put(self, table: str, key: Id, raw: Any, schema: int) -> None:
        """Set or delete one record, as the journal does."""
        records = self.loaded.tables.get(table)
        if records is None:
            records = self.loaded.tables[table] = {}
        if isinstance(key, int) and key >= self.loaded.next_ids.get(table, 1):
            self.loaded.next_ids[table] = key + 1
        if len(raw) == 4 and bytes(raw) == NULL:
            records.pop(key, None)
            return
        record = decode_record(table, raw, schema)
        if table == "jobs":
            self._interner.share(record)
        records[key] = record

    def snapshot(self, path: Path) -> None:
        with self.files.open_read(path) as stream:
            self.loaded.snapshot_bytes = self.files.size(path)
            reader = SnapshotReader(stream, path)
            check_schema(reader.schema, path)
            for offset, line in reader:
                try:
                    self.put(*_decode_entry(line), reader.schema)
                except (ValueError, msgspec.MsgspecError) as error:
                    raise StoreDamaged(path, offset, str(error)) from None
        for table, number in reader.next_ids.items():
            self.loaded.next_ids[table] = max(number, self.loaded.next_ids.get(table, 1))
        self.loaded.seq = self.loaded.recovery.snapshot = reader.seq

    def journal(self, path: Path, *, sealed: bool) -> None:
        loaded, recovery = self.loaded, self.loaded.recovery
        with self.files.open_read(path) as stream:
            reader = JournalReader(stream, path, sealed=sealed)
            check_schema(reader.schema, path)
            for line in reader:
                try:
                    for table, key, raw in decode_changes(line):
                        self.put(table, key, raw, reader.schema)
                except ValueError as error:
                    raise StoreDamaged(path, line.offset, str(error)) from None
                loaded.seq = line.last
                recovery.replayed += line.changes
        loaded.active, loaded.active_size, loaded.active_schema = path, reader.end, reader.schema
        loaded.active_first = int(reader.header["first"])
        loaded.sealed_bytes += reader.end if sealed else 0
        if reader.torn:
            recovery.torn_bytes, recovery.torn_file, recovery.torn_offset = reader.torn, path.name, reader.end


def load(store: Path, files: FileLayer) -> Loaded:
    """Read a store; change nothing.

    Raises:
        StoreDamaged, StoreTooNew: see there.
        FileNotFoundError: a file vanished while we read (a running server's compaction): list again.
    """
    begun = time.perf_counter()
    read_format(store, files)
    layout = read_layout(store, files)
    loader, notes = _base(layout, files)
    loaded = loader.loaded
    for first, path in layout.journals.items():
        if first <= loaded.seq:
            continue
        if first != loaded.seq + 1:
            raise StoreDamaged(path, 0, f"it begins with change {first}, but the last one before it is {loaded.seq}")
        loader.journal(path, sealed=layout.sealed_end(first) is not None)
    recovery = loaded.recovery
    recovery.notes = tuple(notes)
    recovery.records = sum(len(records) for records in loaded.tables.values())
    recovery.seconds = time.perf_counter() - begun
    return loaded


def _base(layout: Layout, files: FileLayer) -> tuple[_Loader, list[str]]:
    """Load the newest snapshot that is intact and whose journal is there; nothing if there never was one."""
    notes: list[str] = []
    trouble: StoreDamaged | None = None
    for seq in sorted(layout.snapshots, reverse=True):
        path = layout.snapshots[seq]
        try:
            if seq + 1 not in layout.journals:
                raise StoreDamaged(path, 0, f"the journal that follows this snapshot (change {seq + 1}) is missing")
            loader = _Loader(files)
            loader.snapshot(path)
            return loader, notes
        except StoreTooNew:
            raise
        except StoreDamaged as error:
            trouble = trouble or error
            notes.append(f"passed over a bad snapshot: {error.path.name}, byte {error.offset}: {error.what}")
    if 1 not in layout.journals:
        missing = layout.store / journal_name(1)
        raise trouble or StoreDamaged(missing, 0, "the first journal is missing, and there is no snapshot")
    return _Loader(files), notes
