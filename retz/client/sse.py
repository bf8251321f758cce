"""Server-sent events: bytes in, events out. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class RawEvent(NamedTuple):
    """One event. ``id`` is the journal sequence number, None if the event carries none."""

    kind: str
    id: int | None
    data: Any


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
