"""The master's event stream: subscribes, keeps subscribed, and brings the book of agents up to date."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable

import aiohttp
import msgspec

from .agent_book import AgentBook
from .failures import words_of
from .master_http import MasterHttp, Refused
from .operator_api import Event, decode_agents, decode_event

_log = logging.getLogger(__name__)

FIRST_RECORD_S = 120.0
"""The first record describes the whole cluster: it may have 100 MB and take its time."""
HEARTBEATS = 3
"""So many missed in a row mean that the connection is dead."""
RETRY_MIN_S, RETRY_MAX_S = 0.5, 30.0
MAX_RECORD = 1 << 30
_MAX_LENGTH_DIGITS = 20
_CONNECT_S = 10.0
_POLL_S = 60.0
FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.MsgspecError, Refused)
"""What may go wrong when asking anybody over HTTP."""


class Records:
    """Cuts RecordIO (length in decimals, newline, record) into records, however the bytes come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """More bytes have come: the records that are whole now.

        Raises:
            ValueError: this is no RecordIO.
        """
        buffer, at = self._buffer, 0
        buffer += data
        records: list[bytes] = []
        while True:
            if self._length is None:
                end = buffer.find(b"\n", at, at + _MAX_LENGTH_DIGITS)
                if end < 0:
                    break
                self._length, at = _length(bytes(buffer[at:end])), end + 1
            if len(buffer) - at < self._length:
                break
            records.append(bytes(memoryview(buffer)[at : at + self._length]))
            at += self._length
            self._length = None
        if at:
            del buffer[:at]
        if self._length is None and len(buffer) >= _MAX_LENGTH_DIGITS:
            raise ValueError("a record without length")
        return records


def _length(digits: bytes) -> int:
    length = int(digits)
    if not 0 <= length <= MAX_RECORD:
        raise ValueError(f"a record of {length} bytes")
    return length


class OperatorStream:
    """Keeps ``book`` true.

    Args:
        framework: Our framework's id; empty while there is none.
        trouble: Told why the master cannot be observed; empty once it can.
    """

    def __init__(self, master: MasterHttp, book: AgentBook, framework: str, trouble: Callable[[str], None]) -> None:
        self._master = master
        self._book = book
        self._framework = framework
        self._trouble = trouble
        self._subscribed = False

    async def run(self) -> None:
        """Subscribe, again and again, until cancelled."""
        failures = 0
        while True:
            self._subscribed = False
            try:
                await self._follow()
                why, lasting = "the stream ended", False
            except FAILURES as error:
                why, lasting = words_of(error), isinstance(error, Refused) and error.lasting
            failures = 1 if self._subscribed else failures + 1
            _log.info("the Mesos master's events ended: %s", why)
            if lasting or failures > 1:  # a change of masters is no trouble
                self._trouble(f"cannot observe the Mesos master {self._master.address}: {why}")
            delay = min(RETRY_MAX_S, RETRY_MIN_S * 2 ** min(failures - 1, 10))
            await asyncio.sleep(random.uniform(0.5, 1.0) * delay)

    async def poll(self, interval_s: float) -> None:
        """Look at all agents now and then, for what is in no event, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            if not self._subscribed:
                continue
            try:
                await self._poll()
            except FAILURES as error:
                _log.info("cannot ask the Mesos master for its agents: %s", words_of(error))

    # -- the stream

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        async with asyncio.timeout(FIRST_RECORD_S):
            response = await self._master.call(b'{"type":"SUBSCRIBE"}', timeout)
        async with response:
            async for record in self._records(response):
                if not self._take(record):
                    return

    async def _records(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        records = Records()
        self._patience_s = FIRST_RECORD_S
        while True:
            async with asyncio.timeout(self._patience_s):
                data = await response.content.readany()
            if not data:
                return
            for record in records.feed(data):
                yield record

    def _take(self, record: bytes) -> bool:
        """False if we must subscribe anew."""
        try:
            event = decode_event(record)
        except msgspec.MsgspecError as error:
            if not self._subscribed:
                raise
            _log.warning("an event of the Mesos master is not understood and ignored: %s", error)
            return True
        if event.subscribed is not None:
            self._begin(event)
            return True
        if not self._subscribed:
            return True  # a heartbeat before all else
        return self._book.event(event, time.monotonic())

    def _begin(self, event: Event) -> None:
        subscribed = event.subscribed
        if subscribed is None:
            return
        self._book.subscribed(subscribed.get_state, self._framework, time.monotonic())
        self._patience_s = HEARTBEATS * max(1.0, subscribed.heartbeat_interval_seconds)
        self._subscribed = True
        self._trouble("")

    # -- the poll

    async def _poll(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_POLL_S, sock_connect=_CONNECT_S)
        self._book.polling()
        async with await self._master.call(b'{"type":"GET_AGENTS"}', timeout) as response:
            answer = decode_agents(await response.read())
        if self._subscribed:
            self._book.polled(answer.get_agents, time.monotonic())
        if self._book.forgotten:
            await self._count_unreachable(timeout)

    async def _count_unreachable(self, timeout: aiohttp.ClientTimeout) -> None:
        """Agents that are unreachable and agents that left for good are missing alike, but the former are counted."""
        async with await self._master.get("/metrics/snapshot", timeout) as response:
            metrics = msgspec.json.decode(await response.read(), type=dict[str, object])
        if metrics.get("master/slaves_unreachable") == 0:
            self._book.none_unreachable()
