"""The launcher's own file: what it started, how it ended, what the server has acknowledged.

One line per batch of records: eight hex digits of CRC-32, a space, a JSON array of records. It survives the death
of launcher and server, not of the machine: after that the jobs are gone anyway, so nothing is synced. No
environment and no command is ever written here.

Records:
    ``["h", boot id, cgroup or null]``: a launcher began.
    ``["s", task, pid, earliest, latest]``: a process was started; its start lies between the two clock ticks.
    ``["e", seq, ...]``: a task is over; the very message that goes to the server.
    ``["a", [seq, ...]]``: the server has these on its disk.
"""

# ruff: noqa: PTH104
from __future__ import annotations

import json
import os
import time
from binascii import crc32

from .system import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from .job import Job

NAME = "records"
MAX_BYTES = 1 << 20

encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class History:
    """What a records file says: unfinished starts by task, unacknowledged ends by sequence number."""

    def __init__(self) -> None:
        self.boot_id = ""
        self.cgroup: str | None = None
        self.started: dict[str, list[Any]] = {}
        self.ended: dict[int, list[Any]] = {}
        self.last_seq = 0
        self.damaged = 0

    def apply(self, record: list[Any]) -> None:
        """Take one record into account, in the order of the file."""
        kind = record[0]
        if kind == "h":
            self.boot_id, self.cgroup = record[1], record[2]
        elif kind == "s":
            self.started[record[1]] = record
        elif kind == "e":
            self.started.pop(record[3], None)
            self.ended[record[1]] = record
            self.last_seq = max(self.last_seq, record[1])
        elif kind == "a":
            for seq in record[1]:
                self.ended.pop(seq, None)


def read(path: str) -> History:
    """Read a records file; none is an empty history. Damaged lines are counted and left out: their tasks are lost."""
    history = History()
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return history
    for line in lines:
        if line:
            _apply_line(history, line)
    return history


def _apply_line(history: History, line: bytes) -> None:
    try:
        intact = int(line[:8], 16) == crc32(line[9:])
    except ValueError:
        intact = False
    if not intact:
        history.damaged += 1
        return
    for record in json.loads(line[9:]):
        history.apply(record)


class Writer:
    """Appends records, many per write; starts a new file when everything in it is settled or it is too long."""

    def __init__(self, path: str, header: str, live: list[str]) -> None:
        self._path = path
        self._header = header
        self._pending: list[str] = []
        self._fd = -1
        self._size = 0
        self._torn = False
        self.rewrite(live)

    def add(self, record: str) -> None:
        """Note a record, encoded; :meth:`flush` writes it."""
        self._pending.append(record)

    def flush(self) -> None:
        """Write what was noted, in one write.

        Raises:
            OSError: a full disk, say. The records stay noted and are tried again with the next flush.
        """
        if self._pending:
            # What follows a torn line would be read as part of it, and lost: end it first.
            line = b"\n" * self._torn + _line(self._pending)
            self._torn = True
            if os.write(self._fd, line) != len(line):
                raise OSError(28, "short write", self._path)
            self._torn = False
            self._size += len(line)
            self._pending.clear()

    @property
    def too_long(self) -> bool:
        """Whether a rewrite is worth its while."""
        return self._size > MAX_BYTES

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last rewrite."""
        return self._size == 0 and not self._pending

    def rewrite(self, live: list[str]) -> None:
        """Replace the file by one with only these records, which include what was noted and not yet flushed."""
        temporary = f"{self._path}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        line = _line([self._header, *live])
        try:
            if os.write(fd, line) != len(line):
                raise OSError(28, "short write", temporary)
            os.rename(temporary, self._path)
        except OSError:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._torn = fd, 0, False
        self._pending.clear()


class Book:
    """What the launcher has on record: the starts, and the numbered ends that the server has not acknowledged."""

    def __init__(self, history: History, header: str) -> None:
        self._ends = {seq: encode(end) for seq, end in history.ended.items()}
        # A sequence number is never used twice, not even after the file was emptied.
        self._seq = max(history.last_seq, time.time_ns() // 1000)
        self._file = Writer(NAME, header, list(self._ends.values()))

    @property
    def ends(self) -> Iterable[str]:
        """The ends that are not acknowledged, encoded, in order."""
        return self._ends.values()

    def started(self, record: str) -> None:
        """Note a start, encoded."""
        self._file.add(record)

    def ended(self, end: list[Any]) -> str:
        """Number an end and note it; returns it encoded."""
        self._seq += 1
        end[1] = self._seq
        text = self._ends[self._seq] = encode(end)
        self._file.add(text)
        return text

    def acknowledged(self, seqs: list[int]) -> None:
        """The server has these ends on its disk."""
        for seq in seqs:
            self._ends.pop(seq, None)
        self._file.add(encode(["a", seqs]))

    def write(self, jobs: Collection[Job]) -> None:
        """Write what was noted.

        Args:
            jobs: Those that run.
        """
        try:
            if not jobs and not self._ends:
                if not self._file.empty:
                    self._file.rewrite([])
            elif self._file.too_long:
                self._file.rewrite([*(job.record for job in jobs), *self._ends.values()])
            else:
                self._file.flush()
        except OSError as error:  # a full disk: the server still hears everything, and we try again
            complain(f"cannot write {NAME}: {error}")


def _line(records: list[str]) -> bytes:
    body = f"[{','.join(records)}]".encode()
    return b"%08x %b\n" % (crc32(body), body)
