"""HTTP/1.1 by hand: requests go out as recorded bytes, answers are kept as they came (names of headers and all)."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

Address = tuple[str, int]


@dataclass(frozen=True)
class Message:
    """A request or an answer: its first line, its headers in order, its body (without chunks' framing)."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.start.split(" ")[1])

    def header(self, name: str) -> str | None:
        """A header's value by any spelling of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def parse(raw: bytes) -> Message:
    """A message of which all bytes are there."""
    head, _, body = raw.partition(b"\r\n\r\n")
    message = _head(head)
    if message.header("Transfer-Encoding") == "chunked":
        body = b"".join(chunks(body))
    return Message(message.start, message.headers, body)


def parse_all(raw: bytes) -> list[Message]:
    """Messages that follow one another, each with its Content-Length."""
    found = []
    while b"\r\n\r\n" in raw:
        message = _head(raw.partition(b"\r\n\r\n")[0])
        size = int(message.header("Content-Length") or 0)
        body = raw.partition(b"\r\n\r\n")[2]
        found.append(Message(message.start, message.headers, body[:size]))
        raw = body[size:]
    return found


def chunks(data: bytes) -> list[bytes]:
    """The contents of chunks, without the last, empty one; what is not a whole chunk is left out."""
    found = []
    while match := re.match(rb"([0-9a-fA-F]+)\r\n", data):
        size = int(match[1], 16)
        if size == 0 or len(data) < match.end() + size:
            break
        found.append(data[match.end() : match.end() + size])
        data = data[match.end() + size + 2 :]
    return found


def event(raw: bytes) -> dict[str, Any]:
    """The JSON of the one record in a recorded chunk."""
    (content,) = chunks(raw)
    size, _, record = content.partition(b"\n")
    if len(record) != int(size):
        raise ValueError(f"a record of {len(record)} bytes that says {size!r}")
    value: dict[str, Any] = json.loads(record)
    return value


def _head(head: bytes) -> Message:
    start, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return Message(start, tuple((name, value.strip()) for name, _, value in pairs))


async def call(address: Address, raw: bytes, timeout: float) -> Message:
    """Send a request on a connection of its own and read the whole answer.

    Raises:
        OSError: Nobody listens there, or the connection broke.
        TimeoutError: No whole answer in time.
    """
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(*address, limit=1 << 26)
        try:
            writer.write(raw)
            return await answer(reader, sure=not raw.startswith(b"HEAD "))
        finally:
            writer.close()


async def answer(reader: asyncio.StreamReader, sure: bool = True) -> Message:
    """Read one answer. Not ``sure``: a body may be missing though its length is told (HEAD)."""
    message = await head(reader)
    size = message.header("Content-Length")
    if message.header("Transfer-Encoding") == "chunked":
        body = b"".join([part async for part in _chunked(reader)])
    elif not sure and size is not None:
        body = await _perhaps(reader, int(size))
    else:
        body = await (reader.readexactly(int(size)) if size is not None else reader.read())
    return Message(message.start, message.headers, body)


async def head(reader: asyncio.StreamReader) -> Message:
    """Read the head of an answer."""
    return _head((await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n"))


async def _perhaps(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        async with asyncio.timeout(0.5):
            return await reader.readexactly(size)
    except (TimeoutError, asyncio.IncompleteReadError):
        return b""


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")


@dataclass(eq=False)
class LiveEvent:
    """An event that came: when (monotonic), its place in its stream, and whether a recorded one was found for it."""

    at: float
    place: int
    data: dict[str, Any]
    matched: bool = False


@dataclass(eq=False)
class Stream:
    """An open stream of events, read in the background.

    Attributes:
        end: How it ended: "last chunk", "broken", or why it could not be read; None while it is open.
        news: Set whenever something came.
    """

    head: Message
    writer: asyncio.StreamWriter
    events: list[LiveEvent] = field(default_factory=list)
    end: str | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Take events until the stream ends."""
        buffer = b""
        try:
            async for part in _chunked(reader):
                buffer = self._records(buffer + part)
            self._ended("last chunk")
        except (asyncio.IncompleteReadError, ConnectionError):
            self._ended("broken")
        except ValueError as error:
            self._ended(f"unreadable: {error}")

    def _ended(self, how: str) -> None:
        self.end = how
        self.news.set()

    def _records(self, buffer: bytes) -> bytes:
        while match := re.match(rb"(\d+)\n", buffer):
            stop = match.end() + int(match[1])
            if len(buffer) < stop:
                break
            data = json.loads(buffer[match.end() : stop])
            self.events.append(LiveEvent(time.monotonic(), len(self.events), data))
            buffer = buffer[stop:]
        self.news.set()
        return buffer

    async def close(self) -> None:
        """Drop the connection."""
        self.writer.close()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


async def subscribe(address: Address, raw: bytes, timeout: float) -> Stream | Message:
    """Send a request that opens a stream. An answer other than 200 is no stream: it is returned whole."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(*address, limit=1 << 26)
        writer.write(raw)
        start = await head(reader)
        if start.status != 200:
            body = await reader.readexactly(int(start.header("Content-Length") or 0))
            writer.close()
            return Message(start.start, start.headers, body)
    stream = Stream(start, writer)
    stream.task = asyncio.create_task(stream.read(reader))
    return stream
