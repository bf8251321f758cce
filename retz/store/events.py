"""The event stream: durable changes in order, from memory or from the journals on disk."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .errors import StoreDamaged
from .files import FileLayer
from .journal import Id, JournalReader, decode_changes, line_numbers, parse_line
from .layout import read_layout
from .records import NULL, decode_record
from .tables import Change

log = logging.getLogger(__name__)

# One turn of the loop hands out this many events, so that a batch of 100 000 jobs does not hold it.
EVENTS_PER_TURN = 200
# Decoding a longer line would hold the interpreter for more than 10 ms; who is that far behind reloads.
MAX_LINE_BYTES = 4 << 20
_REMEMBERED = 256

Callback = Callable[[Sequence["Event"]], None]


class Event(NamedTuple):
    """One durable change; ``record`` None: deleted (for jobs: moved to the archive)."""

    seq: int
    table: str
    id: Id
    record: Any


class EventLog:
    """Publishes changes in order and answers "what happened since?".

    Attributes:
        published_seq: Number of the last event handed to subscribers.
    """

    def __init__(self, store: Path, files: FileLayer, seq: int, ring: int) -> None:
        self._store = store
        self._files = files
        self._ring: deque[Event] = deque(maxlen=ring)
        self._lock = threading.Lock()
        self._pending: deque[tuple[int, Sequence[Change]]] = deque()
        self._done = 0
        self._subscribers: list[Callback] = []
        # Where earlier readings stopped: seq -> (file, offset), so that paging through a file is linear.
        self._bookmarks: dict[int, tuple[Path, int]] = {}
        self.published_seq = seq

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback`` with all later events; the function returned ends that."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def add(self, first: int, changes: Sequence[Change]) -> None:
        """Queue durable changes for publication."""
        if changes:
            self._pending.append((first, changes))

    def publish(self, limit: int = EVENTS_PER_TURN) -> bool:
        """Hand out up to ``limit`` events; return whether more are waiting."""
        events: list[Event] = []
        while self._pending and len(events) < limit:
            first, changes = self._pending[0]
            begin = self._done
            end = min(len(changes), begin + limit - len(events))
            events += [Event(first + at, *changes[at]) for at in range(begin, end)]
            self._done = end
            if end == len(changes):
                self._pending.popleft()
                self._done = 0
        if events:
            with self._lock:
                self._ring.extend(events)
                self.published_seq = events[-1].seq
            for callback in tuple(self._subscribers):
                self._hand_out(callback, events)
        return bool(self._pending)

    def _hand_out(self, callback: Callback, events: Sequence[Event]) -> None:
        try:
            callback(events)
        except Exception:
            # One bad listener must not keep the others, or the acknowledgements, from theirs.
            log.exception("a subscriber to events failed")

    def since(self, seq: int, limit: int) -> list[Event] | None:
        """Return up to ``limit`` events after ``seq``, [] if there are none yet, None if they are kept no more.

        May be called on any thread.
        """
        with self._lock:
            published = self.published_seq
            if seq >= published:
                return []
            if self._ring and self._ring[0].seq <= seq + 1:
                begin = seq + 1 - self._ring[0].seq
                return list(islice(self._ring, begin, begin + limit))
        try:
            return self._from_disk(seq, limit, published)
        except (FileNotFoundError, StoreDamaged):
            # Deleted while we looked; or damaged, which the next start will report.
            return None

    def _from_disk(self, seq: int, limit: int, published: int) -> list[Event] | None:
        journals = read_layout(self._store, self._files).journals
        events: list[Event] = []
        for first in sorted(journals):
            if any(first < other <= seq + 1 for other in journals):
                continue
            if first > seq + 1:
                return events or None
            for piece in self._read(journals[first], seq, published):
                if not piece.events:
                    return events or None
                events += piece.events[: limit - len(events)]
                seq = events[-1].seq
                if len(events) >= limit:
                    self._remember(seq, journals[first], piece.end if seq == piece.last else piece.begin)
                    return events
        return events

    def _read(self, path: Path, seq: int, published: int) -> Iterator[_Piece]:
        """Yield the events after ``seq`` of one journal, line by line; none in a line too long to decode."""
        with self._files.open_read(path) as stream:
            reader = JournalReader(stream, path, sealed=True)
            begin = reader.end
            with self._lock:
                bookmark = self._bookmarks.get(seq)
            if bookmark and bookmark[0] == path:
                begin = bookmark[1]
                stream.seek(begin)
            for raw in stream:
                numbers = line_numbers(raw)
                if numbers is None or numbers[0] > published:
                    return
                last = sum(numbers) - 1
                if last > seq:
                    yield _Piece(
                        begin, begin + len(raw), last, _events(raw, path, begin, seq, published, reader.schema)
                    )
                begin += len(raw)

    def _remember(self, seq: int, path: Path, offset: int) -> None:
        with self._lock:
            if len(self._bookmarks) >= _REMEMBERED:
                self._bookmarks.clear()
            self._bookmarks[seq] = (path, offset)


class _Piece(NamedTuple):
    """What one journal line gave: where it begins and ends, its last number, its events."""

    begin: int
    end: int
    last: int
    events: list[Event]


def _events(raw: bytes, path: Path, offset: int, seq: int, published: int, schema: int) -> list[Event]:
    """Return the events of a line with seq < number <= published, [] for a line too long to decode."""
    if len(raw) > MAX_LINE_BYTES:
        return []
    line = parse_line(raw)
    if line is None:
        raise StoreDamaged(path, offset, "a record is not intact")
    events = []
    for number, (table, key, record) in enumerate(decode_changes(line), line.first):
        if seq < number <= published:
            gone = len(record) == 4 and bytes(record) == NULL
            events.append(Event(number, table, key, None if gone else decode_record(table, record, schema)))
    return events
