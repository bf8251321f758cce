"""The promise that a change will be durable, and the large changes made in slices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .errors import StoreFailed
from .journal import encode, line_head
from .tables import Change

if TYPE_CHECKING:
    from .database import Database


class Ticket:
    """One per batch of changes. Effects of the batch wait for it.

    Attributes:
        first, last: Journal sequence numbers of the first and last change.
    """

    __slots__ = ("_callbacks", "_database", "_futures", "absorbed", "changes", "delivered", "first", "last")

    def __init__(self, database: Database, first: int, last: int, changes: Sequence[Change]) -> None:
        self._database = database
        self.first = first
        self.last = last
        self.changes = changes
        self.absorbed = True
        self.delivered = False
        self._callbacks: list[Callable[[], None]] = []
        self._futures: list[asyncio.Future[None]] = []

    @property
    def durable(self) -> bool:
        """Whether the changes are safe on disk."""
        return self._database.durable_seq >= self.last

    def __await__(self) -> Generator[Any, None, None]:
        """Wait for the fsync.

        Raises:
            StoreFailed: if it will never be.
        """
        if not self.durable:
            if self._database.failed:
                raise StoreFailed(self._database.failed)
            loop = asyncio.get_running_loop()
            self._database.attach(loop)
            future: asyncio.Future[None] = loop.create_future()
            self._futures.append(future)
            yield from future.__await__()

    def then(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop's thread after the fsync, in order of append; never after a failure."""
        if self.delivered:
            self._database.call_soon(callback)
        else:
            self._callbacks.append(callback)

    def wait(self, timeout: float | None = None) -> None:
        """Block until durable, for use without a loop.

        Raises:
            StoreFailed, TimeoutError: if it will not be, or not within ``timeout`` seconds.
        """
        self._database.wait(self.last, timeout)

    def settle(self) -> None:
        """Release what waits: the changes are durable."""
        self.delivered = True
        for callback in self._callbacks:
            self._database.guarded(callback)
        for future in self._futures:
            if not future.done():
                future.set_result(None)
        self._callbacks.clear()
        self._futures.clear()

    def fail(self, reason: str) -> None:
        """Tell those who wait that it will never be; callbacks are dropped."""
        for future in self._futures:
            if not future.done():
                future.set_exception(StoreFailed(reason))
        self._callbacks.clear()
        self._futures.clear()


class Bulk:
    """A large atomic batch that never holds the loop: encode in slices, commit once, absorb in slices.

    Nobody may change a record of the batch between ``commit`` and the ``absorb`` that brings it in.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parts: list[bytes] = []
        self._crc = 0
        self._changes: list[Change] = []
        self._absorbed = 0
        self._ticket: Ticket | None = None

    def encode(self, changes: Sequence[Change]) -> None:
        """Add a slice. Touches nothing live; about 200 jobs take a millisecond."""
        if self._ticket is not None:
            raise ValueError("the batch is committed already")
        if not changes:
            return
        part = (b"," if self._parts else b"[") + memoryview(encode(changes))[1:-1]
        self._crc = crc32(part, self._crc)
        self._parts.append(part)
        self._changes += changes

    def commit(self) -> Ticket:
        """Append one journal line made of all slices.

        Raises:
            ValueError: if the batch is empty or was committed before.
            StoreFailed: if nothing can be written any more.
        """
        if self._ticket is not None or not self._parts:
            raise ValueError("a batch is committed once, and not empty")
        self._ticket = self._database.append(self._changes, self._assemble)
        self._ticket.absorbed = False
        return self._ticket

    def _assemble(self, first: int) -> list[bytes]:
        head = line_head(first, len(self._changes), crc32(b"]", self._crc))
        parts, self._parts = [head, *self._parts, b"]\n"], []
        return parts

    def absorb(self, count: int) -> list[Change]:
        """Put the next ``count`` changes into the live tables and indexes; return them, [] when done."""
        if self._ticket is None:
            raise ValueError("commit the batch first")
        changes = self._changes[self._absorbed : self._absorbed + count]
        self._database.put(changes)
        self._absorbed += len(changes)
        if self._absorbed == len(self._changes) and not self._ticket.absorbed:
            self._ticket.absorbed = True
            self._database.call_soon(self._database.publish)
        return changes
