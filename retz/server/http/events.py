"""``GET /events``: a resumable stream. Nothing is missed and nothing comes twice between replay and live."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from ..problem import Problem
from . import params, streaming
from .api import Call
from .hub import EVERYBODY, Stream, frame, frame_of, owner_of
from .responses import stream as streaming_response

if TYPE_CHECKING:
    from retz.store.database import Event

HEARTBEAT_S = 15.0
WRITE_BYTES = 256 * 1024
REPLAY_PAGE = 1000
SLICE = 100
"""Replayed events encoded between two turns of the loop: about 2 ms."""
MAX_STREAMS = 100
"""Per user."""


async def events(call: Call) -> web.StreamResponse:
    """See docs/api.md."""
    query = call.params("since", "user")
    since = _since(call, query)
    owner = _whose(call, query.text("user"))
    if call.api.hub.count(call.user.key) >= MAX_STREAMS:
        raise Problem("too-many", f"there are {MAX_STREAMS} event streams of yours already: close some")
    headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    response = streaming_response(200, headers)
    stream = call.api.hub.open(owner, call.user.key)
    try:
        sender = Sender(call, stream, since)
        return await streaming.run(call.request, response, "GET events", sender.produce)
    finally:
        call.api.hub.leave(stream)


def _since(call: Call, query: params.Params) -> int | None:
    # The header wins: a browser's EventSource repeats the address it was given, and adds where it stands.
    last = call.request.headers.get("Last-Event-ID")
    if last:
        return params.integer("Last-Event-ID", last, 0, params.MAX_ID)
    since = query.integer("since", -1, 0, params.MAX_ID)
    return None if since < 0 else since


def _whose(call: Call, user: str | None) -> str:
    if user is None or user == call.user.key:
        return call.user.key
    if not call.user.admin:
        raise Problem("forbidden", "only an administrator sees the events of other users")
    return user


class Sender:
    """Sends one stream: first what the client missed, then what comes."""

    def __init__(self, call: Call, stream: Stream, since: int | None) -> None:
        self._call = call
        self._db = call.core.db
        self._stream = stream
        self._since = since
        self._last = 0

    async def produce(self, response: web.StreamResponse) -> None:
        """Write until the client has gone, its user is disabled or the server stops."""
        # The stream is open already: what is published from here on is in its queue, all before is replayed.
        present = self._db.published_seq
        if self._since is None:
            self._last = present
            await response.write(frame(present, b"hello", b"{}"))
        elif self._since > self._db.seq:
            await self._reset(response)
        else:
            self._last = self._since
            await self._replay(response, present)
        while self._allowed():
            await self._send_waiting(response)

    def _allowed(self) -> bool:
        if self._stream.closed or streaming.gone(self._call.request):
            return False
        return self._call.api.welcome(self._call.user)

    async def _send_waiting(self, response: web.StreamResponse) -> None:
        if self._stream.overflowed:
            self._stream.recover()
            await self._reset(response)
            return
        self._last, data = self._stream.take(self._last, WRITE_BYTES)
        if data:
            await response.write(data)
            return
        if not await self._stream.wait(HEARTBEAT_S):
            await response.write(b": alive\n\n")

    async def _reset(self, response: web.StreamResponse) -> None:
        self._last = self._db.published_seq
        await response.write(frame(self._last, b"reset", b"{}"))

    async def _replay(self, response: web.StreamResponse, present: int) -> None:
        while self._last < present and self._allowed():
            page = await asyncio.to_thread(self._db.events_since, self._last, REPLAY_PAGE)
            if page is None:
                await self._reset(response)
                return
            if not page:
                return
            for start in range(0, len(page), SLICE):
                await self._replay_slice(response, page[start : start + SLICE])

    async def _replay_slice(self, response: web.StreamResponse, page: list[Event]) -> None:
        frames = [frame_of(event) for event in page if self._wants(event)]
        self._last = page[-1].seq
        if frames:
            await response.write(b"".join(frames))
        await asyncio.sleep(0)

    def _wants(self, event: Event) -> bool:
        owner = owner_of(event)
        return owner is not None and (owner in (self._stream.owner, EVERYBODY) or self._stream.owner == EVERYBODY)
