"""One segment of the archive: a data file of JSON lines, and what is derived from it.

A line is ``["<crc32 of the record, 8 hex digits>",<record>]``: valid JSON for anybody who looks, and checked
before it is believed. Derived, and rebuilt when lost: the sidecar (:mod:`archive_columns`) and the summary.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from retz.model.job import STATES, Job

from .archive_columns import Builder, Columns, DamagedIndex, EntryFields, Tables, check_size, load
from .files import FileLayer

log = logging.getLogger(__name__)

MAX_SUMMARY_TAGS = 1000
_SUMMARY_VERSION = 1
_TABLES_KEPT_BYTES = 256 * 1024
"""Larger tables (every job with tags of its own) are decoded when needed, not kept."""

_BLOCK = 1 << 16

decode_job = msgspec.json.Decoder(Job).decode
_decode_entry = msgspec.json.Decoder(EntryFields).decode


class Summary(Struct, kw_only=True, gc=False):
    """What a sealed segment holds, small enough to be read when the archive is opened.

    Attributes:
        bytes: Size of the data file.
        damaged: Records that could not be read when it was sealed or rebuilt.
        counts: Owner -> state -> number of jobs.
        tags: Tag -> owner -> state -> number; None when there are more than a thousand tags.
    """

    version: int = _SUMMARY_VERSION
    count: int
    bytes: int
    damaged: int
    min_id: int
    max_id: int
    min_submitted: float
    max_submitted: float
    min_ended: float
    max_ended: float
    counts: dict[str, dict[str, int]]
    tags: dict[str, dict[str, dict[str, int]]] | None


def encode_line(job: Job) -> bytes:
    """The line that keeps ``job``."""
    record = msgspec.json.encode(job)
    return b'["%08x",%b]\n' % (zlib.crc32(record), record)


def record_of(line: bytes) -> bytes | None:
    """The record in a line, or None if the line is not whole and true."""
    if line[:2] != b'["' or line[10:12] != b'",' or line[-2:] != b"]\n":
        return None
    record = line[12:-2]
    return record if line[2:10] == b"%08x" % zlib.crc32(record) else None


class Scan(Struct):
    """Result of reading a data file from end to end.

    Attributes:
        end: Where the last good record ends; what follows is a torn tail.
        damaged: Bad records before that.
    """

    entries: Builder
    end: int
    damaged: int


def scan(path: Path) -> Scan:
    """Read a data file line by line; bad records are left out and counted."""
    entries, offset, end, damaged, bad = Builder(), 0, 0, 0, 0
    with open(path, "rb") as file:
        for line in file:
            record = record_of(line)
            entry = None if record is None else _entry(record)
            if entry is None:
                bad += 1
            else:
                entries.add(entry, offset, len(line))
                end, damaged, bad = offset + len(line), damaged + bad, 0
            offset += len(line)
    return Scan(entries, end, damaged)


def _entry(record: bytes) -> EntryFields | None:
    try:
        return _decode_entry(record)
    except msgspec.MsgspecError:
        return None


def summarise(entries: Builder, data_bytes: int, damaged: int) -> Summary:
    """The summary of a segment. An empty one has zero for every number."""
    columns, tables = entries.columns, entries.tables
    counts: dict[str, dict[str, int]] = {}
    tags: dict[str, dict[str, dict[str, int]]] = {}
    pairs: dict[tuple[int, int, int], int] = {}
    for key in zip(columns.owner, columns.state, columns.tags, strict=True):
        pairs[key] = pairs.get(key, 0) + 1
    for (owner_number, state_number, tagset), number in pairs.items():
        owner, state = tables.owners[owner_number], STATES[state_number]
        for by_owner in (counts, *(tags.setdefault(tag, {}) for tag in set(tables.tagsets[tagset]))):
            by_state = by_owner.setdefault(owner, {})
            by_state[state] = by_state.get(state, 0) + number
    return Summary(
        count=entries.count,
        bytes=data_bytes,
        damaged=damaged,
        min_id=min(columns.id, default=0),
        max_id=max(columns.id, default=0),
        min_submitted=min(columns.submitted, default=0.0),
        max_submitted=max(columns.submitted, default=0.0),
        min_ended=min(columns.ended, default=0.0),
        max_ended=max(columns.ended, default=0.0),
        counts=counts,
        tags=tags if len(tags) <= MAX_SUMMARY_TAGS else None,
    )


class View(Struct, frozen=True):
    """A segment as it is now, for reading: later appends do not show.

    Attributes:
        key: Differs when the content differs; for caches.
        order: Row numbers in ascending order of id.
        summary: None for the active segment.
    """

    key: tuple[int, int]
    columns: Columns
    tables: Tables
    order: Sequence[int]
    summary: Summary | None
    path: Path

    def records(self, rows: Iterable[int]) -> Iterator[bytes | None]:
        """The records of ``rows``; None for one that is damaged or expired meanwhile."""
        offsets, lengths = self.columns.offset, self.columns.length
        with contextlib.ExitStack() as stack:
            file: BinaryIO | None = None
            # Expired between the look at the index and here: as if it had been asked for later.
            with contextlib.suppress(FileNotFoundError):
                file = stack.enter_context(open(self.path, "rb", buffering=0))
            for row in rows:
                line = b"" if file is None else os.pread(file.fileno(), lengths[row], offsets[row])
                record = record_of(line)
                if record is None and file is not None:
                    log.error("archive: %s: the record at byte %d is damaged", self.path, offsets[row])
                yield record

    def lines(self, rows: Iterable[int]) -> Iterator[bytes]:
        """The unchecked lines of many rows in ascending order of offset, read in blocks; none once it has expired."""
        offsets, lengths = self.columns.offset, self.columns.length
        block, start = b"", 0
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb", buffering=0) as file:
            for row in rows:
                offset, length = offsets[row], lengths[row]
                if offset + length > start + len(block):
                    block, start = os.pread(file.fileno(), max(length, _BLOCK), offset), offset
                yield block[offset - start : offset - start + length]

    def jobs(self, rows: Iterable[int]) -> Iterator[Job | None]:
        """The jobs of ``rows``; None as in :meth:`records`."""
        for record in self.records(rows):
            yield None if record is None else decode_job(record)


def write_derived(files: FileLayer, data: Path, summary: Summary, entries: Builder) -> None:
    """Write the summary and then the sidecar of a data file: whoever finds the sidecar finds both."""
    files.close(files.install(data.with_suffix(".json"), (msgspec.json.encode(summary),)))
    files.close(files.install(data.with_suffix(".idx"), (entries.encode(summary.bytes),)))


class SealedSegment:
    """A segment that no longer changes. Only its summary is in memory; the sidecar is mapped at first use."""

    def __init__(self, directory: Path, number: int, files: FileLayer, *, read_only: bool) -> None:
        self.number = number
        self._files = files
        self.path = directory / f"segment-{number}.jsonl"
        self._index_path = self.path.with_suffix(".idx")
        self._summary_path = self.path.with_suffix(".json")
        self._read_only = read_only
        self._lock = threading.Lock()
        self._view: View | None = None
        self._tables: memoryview | None = None
        self._summary = self._load_summary()

    def _load_summary(self) -> Summary:
        size = self.path.stat().st_size
        try:
            summary = msgspec.json.decode(self._summary_path.read_bytes(), type=Summary)
            check_size(self._index_path, size)
            if summary.bytes == size and summary.version == _SUMMARY_VERSION:
                return summary
        except (OSError, msgspec.MsgspecError, DamagedIndex) as error:
            log.warning("archive: rebuilding what is derived from %s: %s", self.path, error)
        return self._rebuild()

    def _rebuild(self) -> Summary:
        found = scan(self.path)
        size = self.path.stat().st_size
        if found.damaged or found.end < size:
            log.error("archive: %s has %d damaged records", self.path, found.damaged + (found.end < size))
        summary = summarise(found.entries, size, found.damaged + (found.end < size))
        if self._read_only:
            entries = found.entries
            order = sorted(range(entries.count), key=entries.columns.id.__getitem__)
            self._view = View((self.number, -1), entries.columns, entries.tables, order, summary, self.path)
        else:
            write_derived(self._files, self.path, summary, found.entries)
        return summary

    @property
    def summary(self) -> Summary:
        """Its summary."""
        return self._summary

    def view(self) -> View:
        """Its content. The first call checks the sidecar (3 ms), and rebuilds one that is damaged."""
        view = self._view
        if view is None:
            with self._lock:
                view = self._view or self._open_view()
        return view

    def _open_view(self) -> View:
        try:
            columns, rows, tables_json = load(self._index_path, self._summary.bytes)
        except DamagedIndex as error:
            log.warning("archive: rebuilding what is derived from %s: %s", self.path, error)
            self._summary = self._rebuild()
            if self._view is not None:
                return self._view
            columns, rows, tables_json = load(self._index_path, self._summary.bytes)
        tables = msgspec.json.decode(tables_json, type=Tables)
        view = View((self.number, -1), columns, tables, range(rows), self._summary, self.path)
        if len(tables_json) <= _TABLES_KEPT_BYTES:
            self._view = view
        return view

    def find(self, job_id: int) -> tuple[View, int] | None:
        """Where a job is, or None."""
        if not self._summary.min_id <= job_id <= self._summary.max_id:
            return None
        view = self.view()
        place = bisect_left(view.order, job_id, key=view.columns.id.__getitem__)
        if place == len(view.order) or view.columns.id[view.order[place]] != job_id:
            return None
        return view, view.order[place]

    def delete(self) -> None:
        """Remove its files, the data first: what is derived is swept up at the next opening if we die between."""
        for path in (self.path, self._index_path, self._summary_path):
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(path)


class ActiveSegment:
    """The segment that grows. Its rows are in memory; its sidecar is written when it is sealed."""

    def __init__(self, directory: Path, number: int, files: FileLayer, *, read_only: bool) -> None:
        self.number = number
        self._files = files
        self.path = directory / f"segment-{number}.jsonl"
        self.failed: str | None = None
        self.damaged = 0
        self.size = 0
        self.entries = Builder()
        self.max_ended = 0.0
        self.max_id = 0
        self._file: int | None = None
        self._view: View | None = None
        if self.path.exists():
            self._load(read_only)

    def _load(self, read_only: bool) -> None:
        found = scan(self.path)
        self.entries, self.size, self.damaged = found.entries, found.end, found.damaged
        self.max_ended = max(found.entries.columns.ended, default=0.0)
        self.max_id = max(found.entries.columns.id, default=0)
        torn = self.path.stat().st_size - self.size
        if found.damaged:
            log.error("archive: %s has %d damaged records, left out", self.path, found.damaged)
        if torn and not read_only:
            log.warning("archive: cut a torn tail of %d bytes off %s", torn, self.path)
            descriptor = self._open()
            self._files.truncate(descriptor, self.size)
            self._files.fsync(descriptor)

    @property
    def count(self) -> int:
        """Number of jobs."""
        return self.entries.count

    def view(self) -> View:
        """Its present content."""
        count = self.entries.count
        view = self._view
        if view is None or view.key[1] != count:
            columns = self.entries.columns
            order = sorted(range(count), key=columns.id.__getitem__)
            view = View((self.number, count), columns, self.entries.tables, order, None, self.path)
            self._view = view
        return view

    def find(self, job_id: int) -> tuple[View, int] | None:
        """Where a job is, or None."""
        row = self.entries.position.get(job_id)
        # Any view will do: rows never move, and columns are shared. (The row's number is published first.)
        return None if row is None or row >= self.entries.count else (self._any_view(), row)

    def _any_view(self) -> View:
        if self._view is None:
            entries = self.entries
            self._view = View((self.number, 0), entries.columns, entries.tables, (), None, self.path)
        return self._view

    def append(self, jobs: Sequence[Job]) -> None:
        """Write and fsync; the jobs show only after that.

        Raises:
            OSError: nothing was added. After a failed fsync the segment takes nothing more until reopened.
        """
        if self.failed is not None:
            raise OSError(f"the archive takes nothing more after a failed write ({self.failed}); restart the server")
        lines = [encode_line(job) for job in jobs]
        self._write(b"".join(lines))
        for job, line in zip(jobs, lines, strict=True):
            self.entries.add(job, self.size, len(line))
            self.size += len(line)
            self.max_ended = max(self.max_ended, job.ended or 0.0)
            self.max_id = max(self.max_id, job.id)

    def _write(self, data: bytes) -> None:
        descriptor = self._open()
        try:
            self._files.write_all(descriptor, (data,))
        except OSError:
            # A full disk: take back what was written, so that it can be tried again later.
            self.failed = "an incomplete record could not be taken back"
            self._files.truncate(descriptor, self.size)
            self.failed = None
            raise
        try:
            self._files.fsync(descriptor)
        except OSError as error:
            # The kernel may have dropped the pages and forgotten: only what a restart reads is true.
            self.failed = f"fsync: {error}"
            raise

    def _open(self) -> int:
        if self._file is None:
            if self.path.exists():
                self._file = self._files.open_append(self.path)
            else:
                self._file = self._files.create(self.path)
                self._files.fsync_dir(self.path.parent)
        return self._file

    def seal(self) -> SealedSegment:
        """Write summary and sidecar; the sidecar, written last, is what makes it sealed."""
        summary = summarise(self.entries, self.size, self.damaged)
        write_derived(self._files, self.path, summary, self.entries)
        self.close()
        return SealedSegment(self.path.parent, self.number, self._files, read_only=False)

    def close(self) -> None:
        """Let go of the file. Twice is harmless."""
        if self._file is not None:
            self._files.close(self._file)
            self._file = None
