"""From the journal to whoever listens: one subscription to the store, any number of event streams and waits.

A change is published after its fsync. While nobody listens nothing is encoded; otherwise an event is encoded once,
however many streams it goes to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from retz.model.application import Application
from retz.model.job import Job

from .responses import encode
from .views import application_of, job_of

if TYPE_CHECKING:
    from retz.store.database import Database, Event

QUEUE_BYTES = 4 * 1024 * 1024
"""What a stream may have waiting; a client that is slower is told to reload."""
EVERYBODY = "*"


class ApplicationGone(Struct):
    """Data of an ``application`` event when it was deleted."""

    name: str
    owner: str
    deleted: bool = True


class QueueMode(Struct):
    """Data of a ``queue`` event."""

    mode: str


class Stream:
    """What waits to be sent to one client.

    Args:
        owner: Whose events; :data:`EVERYBODY` for all.
        listener: The user who listens.
    """

    def __init__(self, owner: str, listener: str) -> None:
        self.owner = owner
        self.listener = listener
        self.wake = asyncio.Event()
        self.closed = False
        self.overflowed = False
        self._frames: deque[tuple[int, bytes]] = deque()
        self._bytes = 0

    def push(self, seq: int, frame: bytes) -> None:
        """Queue an event, or note that there are too many."""
        if self.overflowed:
            return
        if self._bytes + len(frame) > QUEUE_BYTES:
            self.overflowed = True
            self._frames.clear()
            self._bytes = 0
        else:
            self._frames.append((seq, frame))
            self._bytes += len(frame)
        self.wake.set()

    def take(self, after: int, limit: int) -> tuple[int, bytes]:
        """Return (last number, about ``limit`` bytes of events numbered above ``after``)."""
        parts: list[bytes] = []
        size = 0
        while self._frames and size < limit:
            seq, frame = self._frames.popleft()
            self._bytes -= len(frame)
            if seq > after:
                after = seq
                size += len(frame)
                parts.append(frame)
        return after, b"".join(parts)

    def recover(self) -> None:
        """Begin anew after an overflow."""
        self.overflowed = False

    async def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to do; False if the time is over first."""
        if self._frames or self.overflowed or self.closed:
            return True
        self.wake.clear()
        try:
            async with asyncio.timeout(timeout_s):
                return await self.wake.wait()
        except TimeoutError:
            return False


class Hub:
    """Streams and waits of one server. All methods are called on the event loop's thread."""

    def __init__(self) -> None:
        self._streams: dict[str, set[Stream]] = {}
        self._waits: dict[int, set[asyncio.Future[bool]]] = {}
        self._unsubscribe: Callable[[], None] | None = None
        self.dropped = 0

    def start(self, db: Database) -> None:
        """Begin to listen."""
        self._unsubscribe = db.subscribe(self.publish)

    def close(self) -> None:
        """Stop listening and end all streams and waits."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for stream in self.streams():
            stream.closed = True
            stream.wake.set()
        for futures in self._waits.values():
            _resolve(futures, False)

    def open(self, owner: str, listener: str) -> Stream:
        """A new stream; hand it back to :meth:`leave`."""
        stream = Stream(owner, listener)
        self._streams.setdefault(owner, set()).add(stream)
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream."""
        streams = self._streams.get(stream.owner, set())
        streams.discard(stream)
        if not streams:
            self._streams.pop(stream.owner, None)

    def streams(self) -> list[Stream]:
        """All open streams."""
        return [stream for streams in self._streams.values() for stream in streams]

    def count(self, listener: str) -> int:
        """How many streams a user has open."""
        return sum(stream.listener == listener for stream in self.streams())

    async def changed(self, job_id: int, timeout_s: float) -> bool:
        """Wait until the job changes; False if it has not by then."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting = self._waits.setdefault(job_id, set())
        waiting.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return False
        finally:
            waiting.discard(future)
            if not waiting and self._waits.get(job_id) is waiting:
                del self._waits[job_id]

    def publish(self, events: Sequence[Event]) -> None:
        """Take durable changes and hand them on."""
        if self._waits:
            for event in events:
                if event.table == "jobs" and (futures := self._waits.get(cast(int, event.id))) is not None:
                    _resolve(futures, True)
        if self._streams:
            for event in events:
                self._hand_on(event)

    def _hand_on(self, event: Event) -> None:
        if event.table == "users":
            # Its streams look again whether it is still allowed to listen.
            for stream in self.streams():
                stream.wake.set()
            return
        owner = owner_of(event)
        if owner is None:
            return
        if owner == EVERYBODY:
            listeners = self.streams()
        else:
            listeners = [*self._streams.get(owner, ()), *self._streams.get(EVERYBODY, ())]
        if listeners:
            frame = frame_of(event)
            for stream in listeners:
                before = stream.overflowed
                stream.push(event.seq, frame)
                self.dropped += stream.overflowed and not before


def _resolve(futures: set[asyncio.Future[bool]], value: bool) -> None:
    for future in futures:
        if not future.done():
            future.set_result(value)


def owner_of(event: Event) -> str | None:
    """Whose event it is, :data:`EVERYBODY` for the queue's; None for what nobody is told."""
    if event.table == "jobs":
        # A job that leaves the table was archived: it stays as it was.
        return event.record.owner if event.record is not None else None
    if event.table == "applications":
        return str(event.id).partition("/")[0]
    if event.table == "meta" and event.id == "queue":
        return EVERYBODY
    return None


def frame_of(event: Event) -> bytes:
    """The event as it goes over the wire. ``why`` is left out: it depends on more than the job."""
    record: Any = event.record
    if isinstance(record, Job):
        return frame(event.seq, b"job", encode(job_of(record)))
    if isinstance(record, Application):
        return frame(event.seq, b"application", encode(application_of(record)))
    if event.table == "applications":
        owner, _, name = str(event.id).partition("/")
        return frame(event.seq, b"application", encode(ApplicationGone(name, owner)))
    return frame(event.seq, b"queue", encode(QueueMode(record["mode"])))


def frame(seq: int, kind: bytes, data: bytes) -> bytes:
    """One server-sent event."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, kind, data)
