"""The one thread that writes: group commit, rotation, and what happens when the disk says no."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

from .errors import StoreFailed
from .files import Buffer, FileLayer
from .journal import journal_name
from .layout import create_journal, journal_header
from .options import StoreOptions

log = logging.getLogger(__name__)

# Without a pause, 16 clients fall into two alternating cohorts, each waiting for the other's fsync, and a disk
# with 5 ms per fsync does half of what it can. It ends as soon as there are as many as the last commit answered
# and left waiting together: all are back. With a share of 0.2 the last of 16 clients came too late (2 000 submits/s
# with 5 ms fsync against 2 130 with 0.4): answering them takes the loop a millisecond and a half.
GATHER_SHARE = 0.4
GATHER_MAX_S = 0.002
GATHER_STEP_S = 0.00025
"""A disk so fast that not even one step comes out needs no cohorts; sleeping costs 60 µs more than one asks for, and
without it 1 000 x true run at 0.60 of xargs's rate instead of 0.55."""

_Batch = tuple[int, Sequence[Buffer]]


class Writer:
    """Appends batches in the order given and makes them durable, many with one fsync.

    ``notify`` is called on the writer's thread once per group commit and once after a failure. The thread needs
    the interpreter's lock only for a moment between two system calls: keep it so.

    Attributes:
        durable_seq: Number of the last change that is safe on disk.
        failed: Why nothing is written any more; None while all is well.
        sealed: Bytes of the journals sealed so far.
        commits, fsync_total_s: Group commits so far, and the seconds their fsyncs took.
    """

    def __init__(
        self,
        files: FileLayer,
        path: Path,
        first: int,
        size: int,
        seq: int,
        options: StoreOptions,
        notify: Callable[[], None],
    ) -> None:
        self._files = files
        self._path = path
        self._first = first
        self._size = size
        self._options = options
        self._notify = notify
        self._fd = files.open_append(path)
        self._queue: SimpleQueue[_Batch | threading.Event | None] = SimpleQueue()
        self._fsync_s = 0.0
        self.commits = 0
        self.fsync_total_s = 0.0
        self._expected = 0
        self._waiting = 0
        self._rotation: threading.Event | None = None
        self._changed = threading.Condition()
        self.durable_seq = seq
        self.failed: str | None = None
        self.sealed = 0
        self._thread = threading.Thread(target=self._run, name="retz-journal", daemon=True)
        self._thread.start()

    # Called by the owner's thread.

    def put(self, last: int, buffers: Sequence[Buffer]) -> None:
        """Queue a line whose last change has number ``last``."""
        self._queue.put((last, buffers))

    def rotate(self) -> threading.Event:
        """Seal the active journal if it holds a change; the event is set when that is done or has failed."""
        done = threading.Event()
        self._queue.put(done)
        if self.failed or not self._thread.is_alive():
            done.set()
        return done

    def wait(self, seq: int, timeout: float | None) -> None:
        """Block until change ``seq`` is durable.

        Raises:
            StoreFailed, TimeoutError: if it will not be, or not in time.
        """
        if self.durable_seq >= seq:
            return
        with self._changed:
            self._waiting += 1
            try:
                settled = self._changed.wait_for(lambda: self.durable_seq >= seq or self.failed, timeout)
            finally:
                self._waiting -= 1
        if self.durable_seq < seq:
            if self.failed:
                raise StoreFailed(self.failed)
            assert not settled
            raise TimeoutError(f"change {seq} is not durable after {timeout} s")

    def stop(self) -> None:
        """Write what is queued, then end the thread and close the journal."""
        self._queue.put(None)
        self._thread.join()
        self._files.close(self._fd)

    # The thread.

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except OSError as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._release_rotations()

    def _turn(self) -> bool:
        """Take everything that waits, commit it with one fsync; return False when told to stop."""
        item = self._queue.get()
        batch: list[_Batch] = []
        if isinstance(item, tuple):
            batch.append(item)
            self._gather()
            for _ in range(self._queue.qsize()):
                item = self._queue.get()
                if not isinstance(item, tuple):
                    break
                batch.append(item)
            self._commit(batch)
            self._expected = len(batch) + self._queue.qsize()
        if isinstance(item, threading.Event):
            self._rotation = item
        if self._rotation or self._size >= self._options.rotate_bytes:
            self._rotate()
        return item is not None

    def _gather(self) -> None:
        """Give those who were just answered the time to come back, so that one fsync serves all."""
        for _ in range(int(min(GATHER_SHARE * self._fsync_s, GATHER_MAX_S) / GATHER_STEP_S)):
            if 1 + self._queue.qsize() >= self._expected:
                return
            time.sleep(GATHER_STEP_S)

    def _commit(self, batch: list[_Batch]) -> None:
        buffers = [buffer for _, parts in batch for buffer in parts]
        written = self._files.write_all(self._fd, buffers)
        begun = time.perf_counter()
        self._files.fdatasync(self._fd)
        self._fsync_s = time.perf_counter() - begun
        self.commits += 1
        self.fsync_total_s += self._fsync_s
        self._size += written
        self.durable_seq = batch[-1][0]
        self._tell()

    def _rotate(self) -> None:
        first = self.durable_seq + 1
        if first != self._first:
            fd = create_journal(self._path.parent, first, self._files)
            self._files.close(self._fd)
            self.sealed += self._size
            self._fd, self._first = fd, first
            self._path = self._path.with_name(journal_name(first))
            self._size = len(journal_header(first))
            self._notify()
        if self._rotation:
            self._rotation.set()
            self._rotation = None

    def _fail(self, error: Exception) -> None:
        self.failed = (
            f"writing {self._path} failed: {error}. Changes after number {self.durable_seq} were not accepted, "
            f"and none will be until the server is restarted; first see to the disk."
        )
        log.error("%s", self.failed)
        # What was written but not synced may look whole now and be gone after a crash: it must not be believed
        # at the next start. If even this fails, the torn tail is found then.
        with contextlib.suppress(OSError):
            self._files.truncate(self._fd, self._size)
        self._tell()

    def _tell(self) -> None:
        self._notify()
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def _release_rotations(self) -> None:
        """Let nobody wait for a rotation that will not come."""
        if self._rotation:
            self._rotation.set()
        while not self._queue.empty():
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
