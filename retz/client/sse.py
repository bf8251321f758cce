"""Server-sent events: bytes in, events out. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import calls
from .calls import Call


class RawEvent(NamedTuple):
    """One event. ``id`` is the journal sequence number, None if the event carries none."""

    kind: str
    id: int | None
    data: Any


class Subscription:
    """One subscription over many connections: it remembers the last number and asks from there.

    Args:
        since: Journal sequence number after which to begin; None begins now.
        user: ``*`` for everybody's, for administrators.
    """

    def __init__(self, since: int | None = None, user: str | None = None) -> None:
        self.last = since
        self._user = user
        self._parser = EventParser()

    def connect(self) -> Call:
        """The call of the next connection."""
        self._parser = EventParser()
        return calls.events(self.last, self._user)

    def feed(self, data: bytes) -> Iterator[RawEvent]:
        """Take bytes of the stream; ``hello`` is kept to ourselves, ``reset`` tells the caller to reload."""
        for event in self._parser.feed(data):
            if event.id is not None:
                self.last = event.id
            if event.kind != "hello":
                yield event


class EventParser:
    """Feed it bytes as they come; it gives the events that became complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> Iterator[RawEvent]:
        """Take more bytes of the stream."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").removesuffix("\r")
            if text:
                self._take(text)
            elif self._fields:
                yield self._event()

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in self._fields:
            value = self._fields["data"] + "\n" + value
        if name:
            self._fields[name] = value

    def _event(self) -> RawEvent:
        fields, self._fields = self._fields, {}
        number = fields.get("id", "")
        data = fields.get("data")
        return RawEvent(
            fields.get("event", "message"),
            int(number) if number.isdecimal() else None,
            json.loads(data) if data else None,
        )
