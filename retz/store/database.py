"""The queue's database: a TinyDB in memory whose every change is one line of a journal.

A change applies in memory at once, so that decisions see the present; its *effects* (an answer, a launch, an
event) wait for the :class:`Ticket` that ``apply`` returns. Records are immutable: a change puts a new one.
Everything but :meth:`Database.events_since` belongs to one thread, the event loop's.

After a failed write or fsync nothing is acknowledged any more: memory may be ahead of the disk, so the server
answers reads only, and the operator restarts it from what is on disk.

A good moment for ``gc.freeze()`` is after ``open``: what was loaded is then never scanned again.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from tinydb import TinyDB

from .compaction import compactor_command
from .errors import StoreDamaged, StoreFailed, StoreLocked, StoreTooNew
from .events import Event, EventLog
from .files import Buffer, FileLayer
from .journal import encode_line
from .layout import read_layout
from .lock import DirectoryLock
from .opening import open_store
from .options import StoreOptions
from .records import STRING_IDS
from .recovery import Loaded, Recovery
from .tables import Change, JobTable, JournalStorage, JournalTable, RecordTable
from .tickets import Bulk, Ticket
from .writer import Writer

__all__ = [
    "Bulk",
    "Change",
    "Database",
    "Event",
    "FileLayer",
    "JobTable",
    "RecordTable",
    "Recovery",
    "StoreDamaged",
    "StoreFailed",
    "StoreLocked",
    "StoreOptions",
    "StoreTooNew",
    "Ticket",
]

log = logging.getLogger(__name__)

_READ_ONLY = "this database was opened read-only"
_CLOSED = "this database is closed"


class Database(TinyDB):
    """Open with :meth:`open`.

    Attributes:
        jobs, applications, users, submissions, meta, audit, notices: The tables. Any other TinyDB table works too.
        seq: Number of the last change made in memory.
        recovery: What opening found.
        compaction_error: Why the last compaction failed; None if it did not.
    """

    def __init__(
        self,
        store: Path,
        loaded: Loaded,
        files: FileLayer,
        options: StoreOptions,
        lock: DirectoryLock | None,
    ) -> None:
        self._journal_tables: dict[str, JournalTable] = {}
        super().__init__(storage=lambda: JournalStorage(self))
        self._store = store
        self._files = files
        self._options = options
        self._lock = lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tickets: deque[Ticket] = deque()
        self._settled: deque[Ticket] = deque()
        self._failure_callbacks: list[Callable[[str], None]] = []
        self._failure_told = False
        self._closed: str | None = None if lock else _READ_ONLY
        self._next_ids = loaded.next_ids
        self._compacting = threading.Lock()
        self._compactor: subprocess.Popen[bytes] | None = None
        self._snapshot_bytes = loaded.snapshot_bytes
        self._merged = -loaded.sealed_bytes
        self._publishing = False
        self._closing = False
        self.compaction_error: str | None = None
        self.seq = loaded.seq
        self.recovery = loaded.recovery
        self._events = EventLog(store, files, loaded.seq, options.ring)
        self.jobs = cast(JobTable, self.table("jobs"))
        self.applications, self.users, self.submissions, self.meta, self.audit, self.notices = (
            cast(RecordTable, self.table(name)) for name in STRING_IDS
        )
        for name, records in loaded.tables.items():
            self.table(name).load(records)
        self._writer = self._start_writer(loaded) if lock else None

    def _start_writer(self, loaded: Loaded) -> Writer:
        return Writer(
            self._files,
            loaded.active,
            loaded.active_first,
            loaded.active_size,
            loaded.seq,
            self._options,
            self._notify,
        )

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        read_only: bool = False,
        files: FileLayer | None = None,
        options: StoreOptions | None = None,
    ) -> Database:
        """Open (or create) the store of a data directory.

        Read-only works beside a running server: no lock is taken, nothing is cut or created.

        Raises:
            StoreLocked: another process has it open for writing.
            StoreDamaged: a record that was safe cannot be read.
            StoreTooNew: a newer version wrote it.
            FileNotFoundError: read-only, and there is no store.
        """
        files = files or FileLayer()
        store, loaded, lock = open_store(Path(directory), files, read_only=read_only)
        try:
            return cls(store, loaded, files, options or StoreOptions(), lock)
        except BaseException:
            if lock:
                lock.release()
            raise

    # State.

    @property
    def durable_seq(self) -> int:
        """Number of the last change that is safe on disk."""
        return self._writer.durable_seq if self._writer else self.seq

    @property
    def commits(self) -> tuple[int, float]:
        """How many group commits there were, and the seconds their fsyncs took."""
        return (self._writer.commits, self._writer.fsync_total_s) if self._writer else (0, 0.0)

    @property
    def published_seq(self) -> int:
        """Number of the last event handed out; later ones will come to subscribers."""
        return self._events.published_seq

    @property
    def failed(self) -> str | None:
        """Why nothing can be written, a text for the operator; None while all is well."""
        return self._closed or (self._writer.failed if self._writer else None)

    # Tables.

    def journal_tables(self) -> dict[str, JournalTable]:
        """Return every table by name, empty ones too."""
        return self._journal_tables

    def table(self, name: str, **_options: Any) -> JournalTable:
        """Return a table; made when first asked for."""
        table = self._journal_tables.get(name)
        if table is None:
            kind = JobTable if name == "jobs" else RecordTable if name in STRING_IDS else JournalTable
            table = self._journal_tables[name] = kind(self.storage, name)
        return table

    def drop_table(self, name: str) -> None:
        """Remove every document of a table, in one durable change."""
        self.table(name).truncate()

    def drop_tables(self) -> None:
        """Remove every document, in one durable change."""
        changes = [Change(name, key, None) for name, table in self._journal_tables.items() for key in table.records()]
        self.apply(changes).wait()

    # Changes.

    def reserve_ids(self, count: int) -> range:
        """Return the next ``count`` job ids: ascending, never given again once a job with the id was durable."""
        return self.reserve("jobs", count)

    def next_ids(self, count: int) -> range:
        """The ids that :meth:`reserve_ids` would return now."""
        first = self._next_ids.get("jobs", 1)
        return range(first, first + count)

    def reserve(self, table: str, count: int) -> range:
        """The same for any table with numbers as ids."""
        first = self._next_ids.get(table, 1)
        self._next_ids[table] = first + count
        return range(first, first + count)

    def reserve_above(self, job_id: int) -> None:
        """Never give a job id up to ``job_id``: the archive knows it, even if this store was made anew."""
        self._next_ids["jobs"] = max(self._next_ids.get("jobs", 1), job_id + 1)

    def apply(self, changes: Sequence[Change]) -> Ticket:
        """Make changes in memory at once and append them as one atomic line.

        An empty sequence is a barrier: its ticket is durable when everything before it is.

        Raises:
            StoreFailed: if nothing can be written any more; memory is then untouched.
        """
        ticket = self.append(changes, lambda first: (encode_line(first, changes),) if changes else ())
        self.put(changes)
        return ticket

    def append(self, changes: Sequence[Change], lines: Callable[[int], Sequence[Buffer]]) -> Ticket:
        """Queue one line for the journal (``lines`` makes it, given its first number) without touching memory."""
        writer = self._writer
        if self.failed or writer is None:
            raise StoreFailed(self.failed)
        first = self.seq + 1
        buffers = lines(first)
        ticket = Ticket(self, first, self.seq + len(changes), changes)
        self.seq = ticket.last
        self._tickets.append(ticket)
        if buffers:
            writer.put(ticket.last, buffers)
        elif ticket.durable:
            self.call_soon(self._deliver)
        return ticket

    def put(self, changes: Sequence[Change]) -> None:
        """Make changes in memory only: of lines that :meth:`append` took."""
        tables, next_ids = self._journal_tables, self._next_ids
        for name, key, record in changes:
            table = tables.get(name)
            if table is None:
                table = self.table(name)
            table.put(key, record)
            if isinstance(key, int) and key >= next_ids.get(name, 1):
                next_ids[name] = key + 1

    def bulk(self) -> Bulk:
        """Begin a large atomic batch."""
        return Bulk(self)

    # Durability comes back.

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on callbacks come on this loop's thread, one wake-up per group commit."""
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._deliver)

    def _live_loop(self) -> asyncio.AbstractEventLoop | None:
        if self._loop is not None and self._loop.is_closed():
            self._loop = None
            self._publishing = False
        return self._loop

    def on_failed(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` once, with the reason, when a write or fsync has failed."""
        self._failure_callbacks.append(callback)

    def _notify(self) -> None:
        """On the writer's thread, once per group commit."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                # The loop was closed under us: whoever waits without it is told by the writer itself.
                self._loop = None

    def call_soon(self, callback: Callable[[], Any]) -> None:
        """Call on the loop, or at once where there is none."""
        loop = self._live_loop()
        if loop is not None:
            loop.call_soon(callback)
        else:
            callback()

    def guarded(self, callback: Callable[[], None]) -> None:
        """Call; a callback that raises must not keep the next ones from their turn."""
        try:
            callback()
        except Exception:
            log.exception("a callback after an fsync failed")

    def wait(self, seq: int, timeout: float | None) -> None:
        """Block until change ``seq`` is durable; see :meth:`Ticket.wait`."""
        if self._writer is None:
            return
        self._writer.wait(seq, timeout)
        if self._live_loop() is None:
            self._deliver()

    def _deliver(self) -> None:
        durable = self.durable_seq
        tickets = self._tickets
        while tickets and tickets[0].last <= durable:
            ticket = tickets.popleft()
            self._settled.append(ticket)
            ticket.settle()
        if self._writer and self._writer.failed and not self._failure_told:
            self._tell_failure(self._writer.failed)
        self.publish()
        self._compact_if_due()

    def _tell_failure(self, reason: str) -> None:
        self._failure_told = True
        while self._tickets:
            self._tickets.popleft().fail(reason)
        for callback in self._failure_callbacks:
            self.guarded(lambda callback=callback: callback(reason))  # type: ignore[misc]

    # Events.

    def subscribe(self, callback: Callable[[Sequence[Event]], None]) -> Callable[[], None]:
        """Call ``callback`` on the loop with every later durable event, in order; returns the unsubscriber.

        At most a few hundred events come at a time. Those of a bulk come when it is durable and absorbed.
        """
        return self._events.subscribe(callback)

    def events_since(self, seq: int, limit: int) -> list[Event] | None:
        """Return up to ``limit`` published events after ``seq``; None if they are kept no more (reload).

        May be called on any thread; what is not in memory is read from the journals.
        """
        return None if seq > self.seq else self._events.since(seq, limit)

    def publish(self) -> None:
        """Hand out a turn's worth of events that are durable and absorbed; on the loop, the rest follows."""
        settled = self._settled
        while settled and settled[0].absorbed:
            ticket = settled.popleft()
            self._events.add(ticket.first, ticket.changes)
        if self._publishing:
            return
        while self._events.publish():
            loop = self._live_loop()
            if loop is not None:
                self._publishing = True
                loop.call_soon(self._publish_more)
                return

    def _publish_more(self) -> None:
        self._publishing = False
        self.publish()

    # Compaction.

    async def compact(self) -> None:
        """Merge everything into a new snapshot, in another process; the store goes on meanwhile.

        Raises:
            StoreFailed: if the store cannot rotate its journal, or the merge failed (nothing is lost then).
        """
        await asyncio.to_thread(self._compact)

    def _compact(self) -> None:
        writer = self._writer
        if writer is None:
            raise StoreFailed(self.failed)
        with self._compacting:
            writer.rotate().wait()
            if self.failed:
                raise StoreFailed(self.failed)
            sealed = writer.sealed
            self.compaction_error = self._run_compactor()
            if self.compaction_error:
                raise StoreFailed(f"compaction failed: {self.compaction_error}")
            self._merged = sealed
            snapshots = read_layout(self._store, self._files).snapshots.values()
            self._snapshot_bytes = max(map(self._files.size, snapshots), default=0)  # none of a store without records

    def _run_compactor(self) -> str | None:
        """Run the merge; return what went wrong. It ends by itself when its standard input does: with us."""
        process = subprocess.Popen(
            compactor_command(self._store, self._options),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._compactor = process
        if self._closing:
            process.terminate()
        with process:
            assert process.stderr is not None
            errors = process.stderr.read().decode(errors="replace").strip()
            process.wait()
        self._compactor = None
        return None if process.returncode == 0 else errors or f"exit code {process.returncode}"

    def _compact_if_due(self) -> None:
        writer, loop = self._writer, self._live_loop()
        if writer is None or loop is None or self.failed or self._closing or self._compacting.locked():
            return
        if writer.sealed - self._merged >= max(self._options.compact_bytes, self._snapshot_bytes):
            # If the merge fails, it is tried again when as much has been written once more.
            self._merged = writer.sealed
            loop.run_in_executor(None, self._compact_quietly)

    def _compact_quietly(self) -> None:
        try:
            self._compact()
        except (StoreFailed, OSError) as error:
            self.compaction_error = self.compaction_error or str(error)
            log.error("%s", error)

    # The end.

    def close(self) -> None:
        """Write what is queued, give the directory back. Safe to call twice."""
        writer, lock = self._writer, self._lock
        self._opened = False
        if writer is None or lock is None or self._closing:
            return
        self._closing = True
        compactor = self._compactor
        if compactor is not None:
            compactor.terminate()
        writer.stop()
        self._deliver()
        self._closed = _CLOSED
        lock.release()
