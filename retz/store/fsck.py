"""Looking into a damaged store, and saving what can be saved: the logic of ``retz-server fsck``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from .errors import StoreDamaged, StoreTooNew
from .files import FileLayer
from .journal import Id, Line, decode_changes, encode, parse_header, parse_line
from .layout import FORMAT_NAME, Layout, create_journal, read_format, read_layout, write_format
from .opening import LOCK, REPAIRED, STORE
from .records import NULL, SCHEMA, check_schema, decode_record, migrate_raw
from .snapshot import SnapshotReader, snapshot_name, write_snapshot

# A repaired store goes on with numbers that were certainly never given out: clients that hold an older one are
# told to reload, and lost jobs' ids are not given again.
SEQ_MARGIN = 1_000_000
_SMALLEST_CHANGE = 20

_decode_entry = msgspec.json.Decoder(tuple[str, Id, msgspec.Raw]).decode


class Problem(Struct, frozen=True):
    """Something that is not as it should be, and where."""

    file: str
    offset: int
    what: str


class FileReport(Struct, frozen=True):
    """One file: its size in bytes and the valid records (snapshot) or changes (journal) in it."""

    file: str
    bytes: int
    valid: int


class Report(Struct, kw_only=True):
    """What was found, and by a repair what was done.

    Attributes:
        directory: The data directory.
        files: Every snapshot and journal.
        records: Records that are (check) or were (repair) saved.
        seq: Number of the last valid change.
        problems: What is wrong; empty for a store that opens.
        torn: The torn tail that the next start will cut; not a problem.
        lost: By a repair: what could not be saved.
        kept: By a repair: where the old files are now.
    """

    directory: Path
    files: list[FileReport] = []
    records: int = 0
    seq: int = 0
    problems: list[Problem] = []
    torn: Problem | None = None
    lost: list[str] = []
    kept: Path | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def text(self) -> str:
        """Return the report for people."""
        lines = [f"{self.directory}: {self.records} records, last change {self.seq}"]
        lines += [f"  {entry.file}: {entry.bytes} bytes, {entry.valid} valid" for entry in self.files]
        if self.torn:
            lines.append(f"torn tail (harmless, cut at the next start): {_where(self.torn)}")
        lines += [f"problem: {_where(problem)}" for problem in self.problems]
        lines += [f"lost: {sentence}" for sentence in self.lost]
        if self.kept:
            lines.append(f"repaired; the old files are in {self.kept}")
        elif self.clean:
            lines.append("no problems")
        return "\n".join(lines)


def _where(problem: Problem) -> str:
    return f"{problem.file}, byte {problem.offset}: {problem.what}"


class _Salvage:
    """Walks through all files and keeps every record that can be believed."""

    def __init__(self, directory: Path, files: FileLayer, *, cut: bool) -> None:
        self.report = Report(directory=directory)
        self.records: dict[tuple[str, Id], bytes] = {}
        self.next_ids: dict[str, int] = {}
        self.bad_bytes = 0
        self._files = files
        self._cut = cut
        self._stopped = False
        self._applied = 0
        self._store = directory / STORE

    def run(self) -> None:
        try:
            read_format(self._store, self._files)
        except StoreTooNew:
            raise
        except StoreDamaged as error:
            self._problem(error.path, error.offset, error.what)
        layout = read_layout(self._store, self._files)
        if FORMAT_NAME not in self._files.listdir(self._store):
            self._problem(self._store / FORMAT_NAME, 0, "missing")
        self._base(layout)
        self._applied = self.report.seq
        self._journals(layout)
        self.report.records = len(self.records)

    # Snapshots.

    def _base(self, layout: Layout) -> None:
        best = 0
        for seq in sorted(layout.snapshots):
            if self._snapshot(layout.snapshots[seq], believe=False):
                best = seq
        if best:
            self._snapshot(layout.snapshots[best], believe=True)
        elif layout.snapshots and 1 not in layout.journals:
            self._snapshot(layout.snapshots[max(layout.snapshots)], believe=True)
            self.report.lost.append(
                "the only snapshot fails its checksum: records taken from it may not be exactly what they were"
            )

    def _snapshot(self, path: Path, *, believe: bool) -> bool:
        """Read a snapshot; with ``believe`` take its records. Return whether it is intact."""
        valid = 0
        intact = True
        with self._files.open_read(path) as stream:
            try:
                reader = SnapshotReader(stream, path)
                check_schema(reader.schema, path)
                if believe:
                    self.next_ids.update(reader.next_ids)
                    self.report.seq = reader.seq
                for offset, line in reader:
                    valid += self._entry(path, offset, line, reader.schema, believe)
            except StoreTooNew:
                raise
            except StoreDamaged as error:
                intact = False
                if not believe:
                    self._problem(path, error.offset, error.what)
        if not believe:
            self.report.files.append(FileReport(path.name, self._files.size(path), valid))
        return intact

    def _entry(self, path: Path, offset: int, line: bytes, schema: int, believe: bool) -> bool:
        try:
            table, key, raw = _decode_entry(line)
            decode_record(table, raw, schema)
        except (msgspec.MsgspecError, ValueError) as error:
            if not believe:
                self._problem(path, offset, f"a record cannot be read: {error}")
            return False
        if believe:
            self._put(table, key, raw, schema)
        return True

    # Journals.

    def _journals(self, layout: Layout) -> None:
        expected = min(layout.journals, default=self._applied + 1)
        if expected > self._applied + 1:
            self._missing(layout.journals[expected], 0, self._applied + 1, expected - 1)
        for first, path in layout.journals.items():
            expected = self._journal(path, expected, active=layout.sealed_end(first) is None)
        if self._applied + 1 not in layout.journals and not any(first <= self._applied for first in layout.journals):
            self._problem(self._store, 0, f"no journal follows change {self._applied}")

    def _journal(self, path: Path, expected: int, *, active: bool) -> int:
        valid = 0
        bad: Problem | None = None
        with self._files.open_read(path) as stream:
            header = stream.readline()
            fields = parse_header(header)
            if fields is None:
                self._problem(path, 0, "the header line of the journal is not intact")
            schema = int(fields["schema"]) if fields else SCHEMA
            check_schema(schema, path)
            for offset, raw, line in _lines(stream, len(header)):
                if line is None:
                    bad = bad or Problem(path.name, offset, "a record is not intact")
                    self.bad_bytes += len(raw)
                    continue
                if bad:
                    self._record_problem(bad)
                    bad = None
                if line.first > expected:
                    self._missing(path, offset, expected, line.first - 1)
                expected = max(expected, line.last + 1)
                valid += line.changes
                self._apply(path, line, schema)
        if bad and active:
            self.report.torn = bad
        elif bad:
            self._record_problem(bad)
        self.report.files.append(FileReport(path.name, self._files.size(path), valid))
        return expected

    def _apply(self, path: Path, line: Line, schema: int) -> None:
        if line.first <= self._applied or self._stopped:
            return
        try:
            for table, key, raw in decode_changes(line):
                if len(raw) != len(NULL) or bytes(raw) != NULL:
                    decode_record(table, raw, schema)
                self._put(table, key, raw, schema)
        except ValueError as error:
            self._problem(path, line.offset, f"a record cannot be read: {error}")
            self.report.lost.append(f"a change of the line at byte {line.offset} of {path.name}: {error}")
        self._applied = self.report.seq = line.last

    def _put(self, table: str, key: Id, raw: msgspec.Raw, schema: int) -> None:
        if isinstance(key, int) and key >= self.next_ids.get(table, 1):
            self.next_ids[table] = key + 1
        value = bytes(raw)
        if value == NULL:
            self.records.pop((table, key), None)
        else:
            self.records[table, key] = bytes(migrate_raw(table, value, schema))

    def _missing(self, path: Path, offset: int, first: int, last: int) -> None:
        self._problem(path, offset, f"changes {first} to {last} are missing before this")
        self.report.lost.append(f"changes {first} to {last} ({last - first + 1} of them)")
        self.bad_bytes += (last - first + 1) * _SMALLEST_CHANGE

    def _problem(self, path: Path, offset: int, what: str) -> None:
        self._record_problem(Problem(path.name, offset, what))

    def _record_problem(self, problem: Problem) -> None:
        self.report.problems.append(problem)
        if self._cut and problem.file.startswith("journal-") and not self._stopped:
            self._stopped = True
            self.report.lost.append(f"everything after change {self.report.seq} (it was to be cut there)")


def _lines(stream: BinaryIO, offset: int) -> Iterator[tuple[int, bytes, Line | None]]:
    for raw in stream:
        yield offset, raw, parse_line(raw, offset)
        offset += len(raw)


def check(directory: Path, *, files: FileLayer | None = None) -> Report:
    """Read everything, change nothing.

    Raises:
        StoreLocked: a server is running on this directory.
    """
    return _under_lock(directory, files or FileLayer(), cut=False, repair=False)


def repair(directory: Path, *, cut: bool = False, files: FileLayer | None = None) -> Report:
    """Save every valid record into a new store; the old one is kept as ``store.damaged-<time>``.

    With ``cut`` nothing after the first damage in the journals is taken, so that the state is one that really
    was. A store without problems is left alone.

    Raises:
        StoreLocked: a server is running on this directory.
    """
    return _under_lock(directory, files or FileLayer(), cut=cut, repair=True)


def _under_lock(directory: Path, files: FileLayer, *, cut: bool, repair: bool) -> Report:
    if not (directory / STORE).is_dir():
        raise FileNotFoundError(f"no store in {directory}")
    lock = files.lock(directory / LOCK)
    try:
        salvage = _Salvage(directory, files, cut=cut)
        salvage.run()
        if repair and not salvage.report.clean:
            _replace(directory, salvage, files)
        elif not repair:
            salvage.report.lost.clear()
        return salvage.report
    finally:
        lock.release()


def _replace(directory: Path, salvage: _Salvage, files: FileLayer) -> None:
    """Write the repaired store beside the old one, then exchange them (two renames; opening finishes the second)."""
    new, old = directory / REPAIRED, directory / STORE
    if new.exists():
        shutil.rmtree(new)
    files.mkdir(new)
    seq = salvage.report.seq + SEQ_MARGIN
    next_ids = salvage.next_ids
    next_ids["jobs"] = next_ids.get("jobs", 1) + salvage.bad_bytes // _SMALLEST_CHANGE
    lines = (b"%b,%b]" % (encode(where)[:-1], raw) for where, raw in salvage.records.items())
    write_snapshot(files, new / snapshot_name(seq), {"schema": SCHEMA, "seq": seq, "next_ids": next_ids}, lines)
    files.close(create_journal(new, seq + 1, files))
    write_format(new, files)
    kept = directory / f"{STORE}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    files.rename(old, kept)
    files.rename(new, old)
    files.fsync_dir(directory)
    salvage.report.kept = kept
